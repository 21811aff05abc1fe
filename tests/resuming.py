"""Stops and resumes runs, and checks that they leave the same as uninterrupted runs."""

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
    """`value` without entries that depend on a clock or on the machine's memory."""
    if isinstance(value, dict):
        return {name: without_clocks(inner) for name, inner in value.items() if not str(name).startswith(CLOCKS)}
    return [without_clocks(inner) for inner in value] if isinstance(value, list) else value


def assert_equal(ours: object, theirs: object, place: str = "") -> None:
    """Assert that two nested values are exactly equal, including tensors."""
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
    """All results of a run that do not depend on a clock: checkpoints, rows and record."""
    folder, record = run_folder(root), record_of(root)
    last, best = (
        torch.load(folder / "checkpoints" / f"{name}.pt", weights_only=True)["state"] for name in ("last", "best")
    )
    ended = {key: record[key] for key in ("metrics", "cost", "status", "reason")}
    return without_clocks({"last": last, "best": best, "rows": rows_of(folder), **ended})


def stop_before(step: int, command: Sequence[str], cwd: Path) -> None:
    """Run a command and interrupt it before a step."""
    with pytest.MonkeyPatch.context() as patched:
        before_step(patched, step, lambda: signal.raise_signal(signal.SIGINT))
        assert typed(*command, cwd=cwd).returncode == 130


def resumed(command: Sequence[str], root: Path, *, step: int) -> tuple[Path, Path]:
    """The folders of an uninterrupted run, and of one that was stopped before a step and resumed."""
    whole, parted = root / "whole", root / "parted"
    whole.mkdir(), parted.mkdir()
    assert typed(*command, cwd=whole).returncode == 0
    stop_before(step, command, parted)
    again = typed(*command, cwd=parted)
    assert again.returncode == 0
    assert f"resuming at step {step}" in again.stdout
    return whole, parted


def check_resumed(command: Sequence[str], root: Path) -> None:
    """Check that a run stopped before its fourth step, and resumed, has the losses of an uninterrupted one."""
    whole, parted = (rows_of(run_folder(place)) for place in resumed(command, root, step=4))
    assert [row["train/loss"] for row in parted if "train/loss" in row] == [
        row["train/loss"] for row in whole if "train/loss" in row
    ]


def check_resumed_exactly(command: Sequence[str], root: Path, *, step: int) -> None:
    """Check that a run stopped before a step, and resumed, leaves the same as an uninterrupted one, bit for bit."""
    whole, parted = resumed(command, root, step=step)
    assert_equal(outcome(parted), outcome(whole))
