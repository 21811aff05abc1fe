"""Estimates the duration of a run from the times of earlier runs: per run, per epoch and per step."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from ode_runner.config.moved_classes import with_present_classes
from ode_runner.recording.record import AXES, FILE, RunRecord, RunStatus
from ode_runner.recording.regular_file import check_regular

# What an earlier run must have in common with the planned one, from closest to roughest: choices of these axes, and
# options of these groups.
SIZES = ("task", "model", "network")  # groups whose options determine how long an evaluation takes
CLOSE = ((AXES, (*SIZES, "solver", "gradient")), (AXES, SIZES))
ROUGH = ((AXES, ("network",)), (AXES, ()), (("task", "model"), ()))
METRICS = "metrics.jsonl"
BLOCK = 1 << 16  # bytes, longer than any line of this file


@dataclass(frozen=True, kw_only=True)
class Amount:
    """The work of a planned run."""

    steps: int  # 0: nothing is trained
    epochs: int
    samples: int  # in a batch
    most_seconds: float  # limit of the training time


@dataclass(frozen=True, kw_only=True)
class RunTimes:
    """The times of an earlier run, in seconds."""

    record: RunRecord
    samples: float  # in a batch, on average; 0: not known
    start: float  # until the end of the first step, which includes compiling, allocation and caches
    per_step: float  # for each of the other steps
    per_epoch: float  # besides the steps of the epoch: validation, checkpoints
    end: float  # test and pictures

    @classmethod
    def of(cls, record: RunRecord, folder: Path) -> "RunTimes | None":
        """The times of the run in `folder`, from its record and metrics.jsonl; None if the record has none."""
        cost = record.cost
        whole, steps, trained = (cost.get(name) for name in ("wall_seconds", "steps", "train_seconds"))
        if not isinstance(whole, int | float):
            return None
        if not isinstance(steps, int) or not isinstance(trained, int | float) or steps < 1:
            return cls(record=record, samples=0.0, start=0.0, per_step=0.0, per_epoch=0.0, end=whole)
        first, last = _first_and_last_row(folder / METRICS)
        start, fitted = first.get("wall_seconds", 0.0), last.get("wall_seconds", whole)
        return cls(
            record=record,
            samples=cost.get("samples_per_second", 0.0) * trained / (steps - 1) if steps > 1 else 0.0,
            start=start,
            per_step=trained / (steps - 1) if steps > 1 else first.get("time/step_seconds", 0.0),
            per_epoch=max(0.0, fitted - start - trained) / max(1, math.ceil(last.get("epoch", 1))),
            end=max(0.0, whole - fitted),
        )

    def seconds_for(self, amount: Amount, evaluations: float) -> float:
        """Seconds of a run with another amount of work and `evaluations` times as many evaluations in a step."""
        per_step = self.per_step * evaluations * (amount.samples / self.samples if self.samples else 1.0)
        training = self.start + amount.steps * per_step + amount.epochs * self.per_epoch * evaluations
        return min(training, amount.most_seconds) + self.end


def completed_runs(output_dir: str) -> list[RunTimes]:
    """The times of all completed runs below a folder."""
    found = []
    for path in sorted(Path(output_dir).rglob(FILE)):
        record = RunRecord.read(path.parent)
        if record is not None and record.status is RunStatus.COMPLETED:
            record.config = with_present_classes(record.config)
            found.append(RunTimes.of(record, path.parent))
    return [spent for spent in found if spent is not None]


@dataclass(frozen=True)
class Estimate:
    """Seconds of a planned run; `close` if the earlier runs had its sizes."""

    seconds: float
    close: bool


def estimate(record: RunRecord, amount: Amount, earlier: Sequence[RunTimes], evaluations: float) -> Estimate | None:
    """The expected cost of a run: the median over the earlier runs that resemble it most; None if there are none.

    Args:
        record: the record of the planned run.
        amount: its work.
        earlier: the times of earlier runs.
        evaluations: the evaluations of its forward pass; 0: not known.
    """
    for axes, groups in (*CLOSE, *ROUGH):
        alike = [
            spent for spent in earlier if _same(spent.record, record, axes, groups) and _is_comparable(spent, amount)
        ]
        if alike:
            found = median(spent.seconds_for(amount, _ratio(spent, record, evaluations)) for spent in alike)
            return Estimate(found, close=(axes, groups) in CLOSE)
    return None


def _same(a: RunRecord, b: RunRecord, axes: Sequence[str], groups: Sequence[str]) -> bool:
    choices = all(a.choices.get(axis) == b.choices.get(axis) for axis in axes)
    return choices and all(a.config.get(group) == b.config.get(group) for group in groups)


def _is_comparable(spent: RunTimes, amount: Amount) -> bool:
    """Whether the earlier run has trained, if the planned one trains."""
    return not amount.steps or bool(spent.record.cost.get("steps"))


def _ratio(spent: RunTimes, record: RunRecord, evaluations: float) -> float:
    before = spent.record.cost.get("nfe_forward")
    if not before or spent.record.config.get("solver") == record.config.get("solver"):
        return 1.0
    return evaluations / before or 1.0


def _first_and_last_row(path: Path) -> tuple[Mapping[str, float], Mapping[str, float]]:
    """The numbers in the first and in the last line of metrics.jsonl; empty if a line cannot be read."""
    try:
        check_regular(path)
        with path.open("rb") as file:
            first = file.readline(BLOCK)
            file.seek(max(0, path.stat().st_size - BLOCK))
            last = file.read(BLOCK).splitlines()[-1:]
        rows = [json.loads(line) for line in (first, *last)]
    except (OSError, ValueError):
        return {}, {}
    numbers = [
        {name: value for name, value in row.items() if isinstance(value, int | float)} if isinstance(row, dict) else {}
        for row in rows
    ]
    return numbers[0], numbers[-1]
