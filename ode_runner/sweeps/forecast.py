"""`plan=true`: what would be run, how large it is, and how long it may take. Nothing is started or written."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from ode_runner.build import build_cell
from ode_runner.display import clock
from ode_runner.errors import IncompatibleChoice, RefusedInput
from ode_runner.record import FILE, RunRecord, RunStatus
from ode_runner.sweeps.point import Outlook, Point
from ode_runner.tasks.base import Split

SIZED_BY = ("task", "model", "network")
ALIKE = (("task", "model", "network", "solver", "gradient"), ("task", "model"))  # the best resemblance first


@dataclass(frozen=True, kw_only=True)
class Size:
    """What is known of a run once its data and its model are made."""

    parameters: int
    steps_per_epoch: int


@dataclass(kw_only=True)
class Forecast:
    """The table of cells."""

    points: list[Point]
    folder: Path
    sizes: dict[str, Size] = field(default_factory=dict)

    def show(self) -> None:
        """Print it."""
        sizes = [self._size(point) if point.outlook.due else None for point in self.points]  # may find it impossible
        earlier = _completed(self.points[0].cfg.output_dir) if self.points else []
        seconds = [
            _estimate(point, size, earlier) if point.outlook.due and point.outlook is not Outlook.REFUSED else None
            for point, size in zip(self.points, sizes, strict=True)
        ]
        width = max((len(point.name) for point in self.points), default=0)
        for point, size, expected in zip(self.points, sizes, seconds, strict=True):
            parameters = f"{size.parameters:,} parameters" if size else ""
            print(f"{point.outlook:<12}  {point.name:<{width}}  {_told(point, parameters, expected)}".rstrip())
        counts = Counter(str(point.outlook) for point in self.points)
        print(", ".join(f"{count} {outlook}" for outlook, count in counts.items()) + f"      {self.folder}")
        due = [expected for point, expected in zip(self.points, seconds, strict=True) if point.outlook.due]
        known = [expected for expected in due if expected is not None]
        if known:
            unknown = f", and {len(due) - len(known)} for which no earlier run tells" if len(due) > len(known) else ""
            print(f"about {clock(sum(known))}, one run after another{unknown}")
        print("nothing was started; leave out plan=true to run")

    def _size(self, point: Point) -> Size | None:
        """From the objects themselves, made once for all cells of a task, model and network."""
        config = {group: point.record.config.get(group) for group in (*SIZED_BY, "trainer")}
        key = json.dumps(config, sort_keys=True, default=str)
        try:
            if key not in self.sizes:
                cell = build_cell(point.cfg, point.choices)
                parameters = sum(tensor.numel() for tensor in cell.parameters())
                batches = -(-cell.task.size(Split.TRAIN) // cell.options.batch_size) if parameters else 0
                self.sizes[key] = Size(parameters=parameters, steps_per_epoch=batches)
        except RefusedInput as refusal:
            impossible = isinstance(refusal, IncompatibleChoice)
            point.outlook, point.remark = Outlook.INCOMPATIBLE if impossible else Outlook.REFUSED, str(refusal)
            return None
        return self.sizes[key]


def _told(point: Point, parameters: str, expected: float | None) -> str:
    match point.outlook:
        case Outlook.DONE:
            return str(point.folder)
        case Outlook.SAME:
            return f"as {point.remark}"
        case Outlook.RUN | Outlook.RESUME:
            time = "time unknown" if expected is None else f"about {clock(expected)}"
            return "  ".join(part for part in (f"{parameters:>22}", f"{time:<15}", point.remark) if part)
    return point.remark


def _completed(output_dir: str) -> list[RunRecord]:
    records = (RunRecord.read(path.parent) for path in sorted(Path(output_dir).rglob(FILE)))
    return [record for record in records if record is not None and record.status is RunStatus.COMPLETED]


def _estimate(point: Point, size: Size | None, earlier: list[RunRecord]) -> float | None:
    """Seconds from beginning to end, from runs that resemble this one most; None where no run does."""
    if size is None:
        return None
    for axes in ALIKE:
        alike = [record for record in earlier if all(record.choices.get(a) == point.record.choices[a] for a in axes)]
        seconds = [record.cost["wall_seconds"] for record in alike if "wall_seconds" in record.cost]
        if size.parameters:
            trained = [record for record in alike if record.cost.get("steps") and "wall_seconds" in record.cost]
            seconds = [record.cost["wall_seconds"] / record.cost["steps"] for record in trained]
        if seconds:
            return _within_budget(median(seconds), size, point.record.config["trainer"])
    return None


def _within_budget(seconds: float, size: Size, trainer: Mapping[str, Any]) -> float:
    """Of a whole run, from those of a step, or of a run that has nothing to train."""
    if not size.parameters:
        return seconds
    steps = trainer["epochs"] * size.steps_per_epoch
    whole = seconds * min(steps, trainer["max_steps"] or steps)
    return min(whole, trainer["max_seconds"] or whole)
