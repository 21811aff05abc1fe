"""Runs that are stopped and go on: what is left of them, and whether that is what an uninterrupted run leaves."""

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers import before_step, record_of, rows_of, run_folder, typed

CLOCKS = ("wall_seconds", "train_seconds", "compile_seconds", "seconds", "time/", "samples_per_second", "timed_samples")
CLOCKS += ("memory/peak", "peak_memory")
CLOCKS += ("metrics_position", "diagnostics")  # bytes of a file with clocks in it; pictures


def without_clocks(value: Any) -> Any:
    """`value` without what a clock or the machine's memory had a say in."""
    if isinstance(value, dict):
        return {name: without_clocks(inner) for name, inner in value.items() if not str(name).startswith(CLOCKS)}
    return [without_clocks(inner) for inner in value] if isinstance(value, list) else value


def assert_equal(ours: object, theirs: object, place: str = "") -> None:
    """Exactly equal, tensors included."""
    if isinstance(ours, torch.Tensor):
        assert torch.equal(ours, theirs), place
    elif isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), place
        for key in ours:
            assert_equal(ours[key], theirs[key], f"{place}.{key}")
    elif isinstance(ours, list | tuple):
        assert len(ours) == len(theirs), place
        for number, pair in enumerate(zip(ours, theirs, strict=True)):
            assert_equal(*pair, f"{place}[{number}]")
    else:
        assert ours == theirs, place


def outcome(root: Path) -> dict[str, Any]:
    """Everything of a run but what the clock said."""
    folder, record = run_folder(root), record_of(root)
    last, best = (
        torch.load(folder / "checkpoints" / f"{name}.pt", weights_only=True)["state"] for name in ("last", "best")
    )
    ended = {key: record[key] for key in ("metrics", "cost", "status", "reason")}
    return without_clocks({"last": last, "best": best, "rows": rows_of(folder), **ended})


def stop_before(step: int, command: Sequence[str], cwd: Path) -> None:
    """Run a command that is interrupted before a step."""
    with pytest.MonkeyPatch.context() as patched:
        before_step(patched, step, lambda: signal.raise_signal(signal.SIGINT))
        assert typed(*command, cwd=cwd).returncode == 130


def resumed(command: Sequence[str], root: Path, *, step: int) -> tuple[Path, Path]:
    """The folders of an uninterrupted run and of one that was stopped before a step, and went on from there."""
    whole, parted = root / "whole", root / "parted"
    whole.mkdir(), parted.mkdir()
    assert typed(*command, cwd=whole).returncode == 0
    stop_before(step, command, parted)
    again = typed(*command, cwd=parted)
    assert again.returncode == 0
    assert f"resuming at step {step}" in again.stdout
    return whole, parted


def check_resumed(command: Sequence[str], root: Path) -> None:
    """A run stopped before its fourth step goes on to the losses of one that was not."""
    whole, parted = (rows_of(run_folder(place)) for place in resumed(command, root, step=4))
    assert [row["train/loss"] for row in parted if "train/loss" in row] == [
        row["train/loss"] for row in whole if "train/loss" in row
    ]


def check_resumed_exactly(command: Sequence[str], root: Path, *, step: int) -> None:
    """A run stopped before a step leaves all that one leaves that was not, weights and optimizer among it."""
    whole, parted = resumed(command, root, step=step)
    assert_equal(outcome(parted), outcome(whole))
