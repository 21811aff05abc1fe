"""`plan=true`: the cells that would be run, their sizes and estimated times. Nothing is started or written."""

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
from ode_runner.integrator import Integrator
from ode_runner.ledger import Phase
from ode_runner.recording.clock import clock
from ode_runner.sweeps.cost_estimate import Amount, RunTimes, completed_runs, seconds
from ode_runner.sweeps.sweep_cell import CellState, SweepCell

SIZED_BY = ("task", "model", "network")
FEW = 8  # samples by which evaluations are counted


@dataclass(frozen=True, kw_only=True)
class Size:
    """Sizes of a run, which follow from its data and its model."""

    parameters: int
    steps_per_epoch: int
    samples: int  # in a batch


@dataclass(kw_only=True)
class Forecast:
    """The table of cells, with their states, sizes and estimated times."""

    cells: list[SweepCell]
    folder: Path
    sizes: dict[str, Size] = field(default_factory=dict)
    experiments: dict[str, Experiment] = field(default_factory=dict)

    def show(self) -> None:
        """Print the table."""
        sizes = [self._size(cell) if cell.state.due else None for cell in self.cells]  # may find it impossible
        earlier = completed_runs(self.cells[0].cfg.output_dir) if self.cells else []
        times = [
            self._seconds(cell, size, earlier) if cell.state.due and size is not None else None
            for cell, size in zip(self.cells, sizes, strict=True)
        ]
        width = max((len(cell.name) for cell in self.cells), default=0)
        for cell, size, expected in zip(self.cells, sizes, times, strict=True):
            parameters = f"{size.parameters:,} parameters" if size else ""
            print(f"{cell.state:<12}  {cell.name:<{width}}  {_details(cell, parameters, expected)}".rstrip())
        counts = Counter(str(cell.state) for cell in self.cells)
        print(", ".join(f"{count} {state}" for state, count in counts.items()) + f"      {self.folder}")
        due = [expected for cell, expected in zip(self.cells, times, strict=True) if cell.state.due]
        known = [expected for expected in due if expected is not None]
        if known:
            unknown = f", and {len(due) - len(known)} for which no earlier run tells" if len(due) > len(known) else ""
            print(f"about {clock(sum(known))}, one run after another{unknown}")
        print("nothing was started; leave out plan=true to run")

    def _size(self, cell: SweepCell) -> Size | None:
        """Sizes from the objects, built once for all cells of a task, model and network; None where that is refused."""
        key = _key(cell)
        try:
            if key not in self.sizes:
                self.experiments[key] = experiment = build_experiment(cell.cfg, cell.choices)
                parameters = sum(tensor.numel() for tensor in experiment.parameters())
                samples = min(experiment.options.batch_size, experiment.task.size(Split.TRAIN))
                batches = -(-experiment.task.size(Split.TRAIN) // experiment.options.batch_size) if parameters else 0
                self.sizes[key] = Size(parameters=parameters, steps_per_epoch=batches, samples=samples)
        except RefusedInput as refusal:
            impossible = isinstance(refusal, IncompatibleChoice)
            cell.state, cell.remark = CellState.INCOMPATIBLE if impossible else CellState.REFUSED, str(refusal)
            return None
        return self.sizes[key]

    def _seconds(self, cell: SweepCell, size: Size, earlier: Sequence[RunTimes]) -> float | None:
        amount = _amount(size, cell.record.config["trainer"])
        return seconds(cell.record, amount, earlier, partial(self._evaluations, cell))

    def _evaluations(self, cell: SweepCell) -> float:
        """Evaluations of a forward pass of a few samples with fresh weights; 0 where it fails."""
        experiment = self.experiments[_key(cell)]
        solver, gradient = construct(cell.cfg, "solver"), construct(cell.cfg, "gradient")
        integrator = Integrator(solver=solver, gradient=gradient, field_dtype=experiment.integrator.field_dtype)
        batch = next(iter(experiment.task.batches(Split.TRAIN, batch_size=FEW, epoch=0))).to(experiment.dtype)
        with suppress(NumericalFailure, RefusedInput), integrator.ledger.phase(Phase.FORWARD) as tally:
            replace(experiment, integrator=integrator).loss(batch)
            return tally.evaluations
        return 0


def _key(cell: SweepCell) -> str:
    config = {group: cell.record.config.get(group) for group in (*SIZED_BY, "trainer")}
    return json.dumps(config, sort_keys=True, default=str)


def _details(cell: SweepCell, parameters: str, expected: float | None) -> str:
    match cell.state:
        case CellState.DONE:
            return str(cell.folder)
        case CellState.SAME:
            return f"as {cell.remark}"
        case CellState.RUN | CellState.RESUME:
            time = "time unknown" if expected is None else f"about {clock(expected)}"
            return "  ".join(part for part in (f"{parameters:>22}", f"{time:<15}", cell.remark) if part)
    return cell.remark


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
