"""Writes run folders with records, and runs `ode-report` on them in this process."""

import contextlib
import csv
import io
import json
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from ode_runner.recording.record import RunRecord, RunStatus
from ode_runner.report.cli import main
from tests.helpers import Ended

SOLVERS = {"euler": {"num_steps": 16}, "rk4": {"num_steps": 4}, "dopri5": {"rtol": 1e-3}, "-": {"rtol": 1e-3}}


def write_run(
    root: Path, name: str, *, model: str = "odenet", solver: str = "euler", seed: int = 0, task: str = "half_moons",
    status: RunStatus = RunStatus.COMPLETED, metrics: dict[str, float] | None = None, rows: int = 0,
    cost: dict[str, float] | None = None, environment: dict[str, Any] | None = None, reason: str = "",
    options: dict[str, dict[str, Any]] | None = None, finished: str = "2026-01-01T00:00:00+00:00",
    measured_with: dict[str, str] | None = None, training: str = "", invalid: dict[str, str] | None = None,
) -> Path:  # fmt: skip
    """Write a run folder as ode-run would leave it."""
    gradient, evaluations = ("-", 0.0) if solver == "-" else ("backprop", 16.0)
    config: dict[str, Any] = {
        "seed": seed,
        "output_dir": "outputs",
        "sweep": name,
        "task": {"_target_": f"t.{task}", "train": 100},
        "model": {"_target_": f"m.{model}"},
        "network": {"_target_": "n.MLP", "width": 8},
        "solver": {"_target_": f"s.{solver}", **SOLVERS[solver]},
        "gradient": {"_target_": "g.Backprop"},
        "optimizer": {"_target_": "torch.optim.Adam", "lr": 0.01},
        "trainer": {"epochs": 3},
        "logger": {"_target_": "l.Null"},
    }
    for group, values in (options or {}).items():
        config[group] |= values
    record = RunRecord(
        choices={"task": task, "model": model, "network": "mlp", "solver": solver, "gradient": gradient},
        seed=seed,
        fingerprint="abcdef",
        training=training,
        status=status,
        reason=reason,
        metrics=metrics if metrics is not None else {"test/accuracy": 0.9, "test/loss": 0.25, "eval/accuracy": 0.8},
        cost=cost or {"nfe_forward": evaluations, "nfe_backward": 0.0, "saved_bytes": 2.5e6, "train_seconds": 3.25},
        config=config,
        measured_with=measured_with or {},
        invalid=invalid or {},
        environment=environment or {"git_sha": "1234567890", "git_dirty": False, "packages": {"torch": "2.11.0"}},
        finished=finished,
    )
    folder = root / name
    folder.mkdir(parents=True)
    record.write(folder)
    if rows:
        lines = [
            {"step": step, "epoch": float(step), "train/loss": 1 / step + seed / 10, "eval/accuracy": step / 10,
             "nfe/forward": 16.0 + step, "nfe/backward": 0.0}
            for step in range(1, rows + 1)
        ]  # fmt: skip
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


def reported(*arguments: str, cwd: Path, terminal: bool = False) -> Ended:
    """Run `ode-report arguments` in `cwd`, in this process."""
    out, err = Terminal() if terminal else io.StringIO(), io.StringIO()
    with (
        patch.object(sys, "argv", ["ode-report", *arguments]),
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as ended,
    ):
        main()
    code = ended.value.code
    assert isinstance(code, int)
    return Ended(returncode=code, stdout=out.getvalue(), stderr=err.getvalue())


def cells(*arguments: str, cwd: Path) -> list[dict[str, str]]:
    """The rows of the table, read from its CSV format."""
    ended = reported(*arguments, "--format", "csv", cwd=cwd)
    assert ended.returncode == 0, ended.stderr
    return list(csv.DictReader(io.StringIO(ended.stdout)))
