"""`plan=true`: what would be run, how large it is, and how long it may take. Nothing is started or written."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from ode_runner.batch import Split
from ode_runner.build import build_experiment
from ode_runner.building.instantiate import construct
from ode_runner.errors import IncompatibleChoice, NumericalFailure, RefusedInput
from ode_runner.experiment.experiment import Experiment
from ode_runner.field import Phase
from ode_runner.integrator import Integrator
from ode_runner.recording.display import clock
from ode_runner.sweeps.cost_estimate import Amount, Spent, completed, seconds
from ode_runner.sweeps.sweep_cell import CellState, SweepCell

SIZED_BY = ("task", "model", "network")
FEW = 8  # samples by which evaluations are counted


@dataclass(frozen=True, kw_only=True)
class Size:
    """What is known of a run once its data and its model are made."""

    parameters: int
    steps_per_epoch: int
    samples: int  # in a batch


@dataclass(kw_only=True)
class Forecast:
    """The table of cells."""

    points: list[SweepCell]
    folder: Path
    sizes: dict[str, Size] = field(default_factory=dict)
    cells: dict[str, Experiment] = field(default_factory=dict)

    def show(self) -> None:
        """Print it."""
        sizes = [self._size(point) if point.outlook.due else None for point in self.points]  # may find it impossible
        earlier = completed(self.points[0].cfg.output_dir) if self.points else []
        times = [
            self._seconds(point, size, earlier) if point.outlook.due and size is not None else None
            for point, size in zip(self.points, sizes, strict=True)
        ]
        width = max((len(point.name) for point in self.points), default=0)
        for point, size, expected in zip(self.points, sizes, times, strict=True):
            parameters = f"{size.parameters:,} parameters" if size else ""
            print(f"{point.outlook:<12}  {point.name:<{width}}  {_told(point, parameters, expected)}".rstrip())
        counts = Counter(str(point.outlook) for point in self.points)
        print(", ".join(f"{count} {outlook}" for outlook, count in counts.items()) + f"      {self.folder}")
        due = [expected for point, expected in zip(self.points, times, strict=True) if point.outlook.due]
        known = [expected for expected in due if expected is not None]
        if known:
            unknown = f", and {len(due) - len(known)} for which no earlier run tells" if len(due) > len(known) else ""
            print(f"about {clock(sum(known))}, one run after another{unknown}")
        print("nothing was started; leave out plan=true to run")

    def _size(self, point: SweepCell) -> Size | None:
        """From the objects themselves, made once for all cells of a task, model and network."""
        key = _key(point)
        try:
            if key not in self.sizes:
                self.cells[key] = cell = build_experiment(point.cfg, point.choices)
                parameters = sum(tensor.numel() for tensor in cell.parameters())
                samples = min(cell.options.batch_size, cell.task.size(Split.TRAIN))
                batches = -(-cell.task.size(Split.TRAIN) // cell.options.batch_size) if parameters else 0
                self.sizes[key] = Size(parameters=parameters, steps_per_epoch=batches, samples=samples)
        except RefusedInput as refusal:
            impossible = isinstance(refusal, IncompatibleChoice)
            point.outlook, point.remark = CellState.INCOMPATIBLE if impossible else CellState.REFUSED, str(refusal)
            return None
        return self.sizes[key]

    def _seconds(self, point: SweepCell, size: Size, earlier: Sequence[Spent]) -> float | None:
        amount = _amount(size, point.record.config["trainer"])
        return seconds(point.record, amount, earlier, partial(self._evaluations, point))

    def _evaluations(self, point: SweepCell) -> float:
        """Of a forward pass, by making one of a few samples with fresh weights; 0 where it fails."""
        cell = self.cells[_key(point)]
        solver, gradient = construct(point.cfg, "solver"), construct(point.cfg, "gradient")
        integrator = Integrator(solver=solver, gradient=gradient, field_dtype=cell.integrator.field_dtype)
        batch = next(iter(cell.task.batches(Split.TRAIN, batch_size=FEW, epoch=0))).to(cell.dtype)
        with suppress(NumericalFailure, RefusedInput), integrator.ledger.phase(Phase.FORWARD) as tally:
            replace(cell, integrator=integrator).loss(batch)
            return tally.evaluations
        return 0


def _key(point: SweepCell) -> str:
    config = {group: point.record.config.get(group) for group in (*SIZED_BY, "trainer")}
    return json.dumps(config, sort_keys=True, default=str)


def _told(point: SweepCell, parameters: str, expected: float | None) -> str:
    match point.outlook:
        case CellState.DONE:
            return str(point.folder)
        case CellState.SAME:
            return f"as {point.remark}"
        case CellState.RUN | CellState.RESUME:
            time = "time unknown" if expected is None else f"about {clock(expected)}"
            return "  ".join(part for part in (f"{parameters:>22}", f"{time:<15}", point.remark) if part)
    return point.remark


def _amount(size: Size, trainer: Mapping[str, Any]) -> Amount:
    if not size.parameters:
        return Amount(steps=0, epochs=0, samples=0, most_seconds=math.inf)
    steps = trainer["epochs"] * size.steps_per_epoch
    steps = min(steps, trainer["max_steps"] or steps)
    return Amount(
        steps=steps,
        epochs=math.ceil(steps / size.steps_per_epoch),
        samples=size.samples,
        most_seconds=trainer["max_seconds"] or math.inf,
    )
