"""`plan=true`: the cells that would be run, their sizes and estimated times. Nothing is started or written."""

import json
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ode_runner.batch import Split
from ode_runner.errors import IncompatibleChoice, RefusedInput
from ode_runner.experiment.process_state import unchanged
from ode_runner.recording.bookkeeping import PLACEMENT
from ode_runner.recording.clock import clock
from ode_runner.recording.display import counted
from ode_runner.sweeps.cost_estimate import Amount, Estimate, RunTimes, completed_runs, estimate
from ode_runner.sweeps.dry_run import DryRun
from ode_runner.sweeps.sweep_cell import BrokenCell, CellState, SweepCell
from ode_runner.tasks.base import Task

WITHOUT_EFFECT = ("seed", *PLACEMENT)  # on sizes and, with valid values, on refusals


@dataclass(frozen=True, kw_only=True)
class Size:
    """The sizes of a run that follow from its data and its model."""

    parameters: int
    steps_per_epoch: int
    samples: int  # in a batch
    evaluations: float  # of the forward pass of a few samples with fresh weights; 0 if it fails

    @classmethod
    def of(cls, dry_run: DryRun) -> "Size":
        experiment = dry_run.experiment
        samples, parameters = experiment.task.size(Split.TRAIN), sum(p.numel() for p in experiment.parameters())
        return cls(
            parameters=parameters,
            steps_per_epoch=-(-samples // experiment.options.batch_size) if parameters else 0,
            samples=min(experiment.options.batch_size, samples),
            evaluations=dry_run.evaluations(),
        )


@dataclass(kw_only=True)
class SweepPlan:
    """The table of cells, with their states, sizes and estimated times."""

    cells: list[SweepCell]
    folder: Path
    broken: Sequence[BrokenCell] = ()
    found: dict[str, Size | RefusedInput | str] = field(default_factory=dict)  # by the options it depends on
    tasks: dict[str, Task] = field(default_factory=dict)  # by their options

    def show(self) -> None:
        """Print the table."""
        sizes = [self._size(cell) if cell.state.due else None for cell in self.cells]  # may change a cell's state
        earlier = completed_runs(self.cells[0].cfg.output_dir) if self.cells else []
        times = [
            self._estimate(cell, size, earlier) if cell.state.due and size is not None else None
            for cell, size in zip(self.cells, sizes, strict=True)
        ]
        width = max(map(len, (*(cell.name for cell in self.cells), *(one.name for one in self.broken))), default=0)
        for cell, size, expected in zip(self.cells, sizes, times, strict=True):
            parameters = counted(size.parameters, "parameter") if size else ""
            print(f"{cell.state:<12}  {cell.name:<{width}}  {_details(cell, parameters, expected)}".rstrip())
        for broken in self.broken:
            print(f"{CellState.REFUSED:<12}  {broken.name:<{width}}  {broken.reason}")
        counts = Counter([*(str(cell.state) for cell in self.cells), *[CellState.REFUSED.value for _ in self.broken]])
        print(", ".join(f"{count} {state}" for state, count in counts.items()) + f"      {self.folder}")
        due = [expected for cell, expected in zip(self.cells, times, strict=True) if cell.state.due]
        known = [expected for expected in due if expected is not None]
        if known:
            unknown = (
                f", and {len(due) - len(known)} without an estimate from earlier runs" if len(due) > len(known) else ""
            )
            total = Estimate(sum(one.seconds for one in known), close=all(one.close for one in known))
            print(f"{_time(total)}, one run after another{unknown}")
            if not total.close:
                print("roughly: estimated from runs of this task and model with other options")
        print("nothing was started; leave out plan=true to run")

    def _size(self, cell: SweepCell) -> Size | None:
        """The sizes of a cell, whose objects are made once for all seeds; None if a run would be refused or fail."""
        key = json.dumps([_without(cell.record.config, WITHOUT_EFFECT), cell.choices], sort_keys=True, default=str)
        if key not in self.found:
            self.found[key] = self._dry_run(cell)
        found = self.found[key]
        if isinstance(found, Size):
            return found
        if isinstance(found, str):
            cell.remark = found
            return None
        impossible = isinstance(found, IncompatibleChoice)
        cell.state, cell.remark = CellState.INCOMPATIBLE if impossible else CellState.REFUSED, str(found)
        return None

    def _dry_run(self, cell: SweepCell) -> Size | RefusedInput | str:
        key = json.dumps([cell.record.config["task"], cell.record.config["seed"]], sort_keys=True, default=str)
        try:
            with unchanged():
                dry_run = DryRun.of(cell.cfg, cell.choices, task=self.tasks.get(key))
                self.tasks[key] = dry_run.experiment.task
                return Size.of(dry_run)
        except RefusedInput as refusal:
            return refusal
        except Exception as error:  # an error in code: a run would fail likewise, and keep the traceback
            return f"would fail: {type(error).__name__}: {str(error).partition(chr(10))[0]}"

    def _estimate(self, cell: SweepCell, size: Size, earlier: Sequence[RunTimes]) -> Estimate | None:
        amount = _amount(size, cell.record.config["trainer"])
        return estimate(cell.record, amount, earlier, size.evaluations)


def _without(config: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name not in names}


def _time(expected: Estimate | None) -> str:
    if expected is None:
        return "time unknown"
    return f"{'about' if expected.close else 'roughly'} {clock(expected.seconds)}"


def _details(cell: SweepCell, parameters: str, expected: Estimate | None) -> str:
    match cell.state:
        case CellState.DONE:
            return str(cell.folder)
        case CellState.SAME:
            return f"as {cell.remark}"
        case CellState.RUN | CellState.RESUME:
            return "  ".join(part for part in (f"{parameters:>22}", f"{_time(expected):<15}", cell.remark) if part)
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
