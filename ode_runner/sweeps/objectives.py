"""What a search is for: names of numbers in a record, and which way each is better."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ode_runner.errors import RefusedInput
from ode_runner.experiment.criterion import criterion
from ode_runner.models.base import Model
from ode_runner.recording.record import RunRecord
from ode_runner.report.quantities import direction
from ode_runner.report.runs import Run
from ode_runner.sweeps.dispatch import BASIC_LAUNCHER, JOBLIB_LAUNCHER
from ode_runner.tasks.base import Task

NFE = ("cost/nfe_forward", "cost/nfe_backward")


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A number that a search makes as large or as small as it can."""

    name: str  # as shown
    direction: int  # +1: higher is better, -1: lower is
    of: Callable[[Run], float | None]  # None where the run has no such number


def objectives(names: Sequence[str], task: type[Task], model: type[Model]) -> list[Objective]:
    """From what is typed: `objective` is what chooses the best weights, on validation; `nfe` is of a training step.

    Raises:
        RefusedInput: nobody knows whether a number is better high or low, or it is of the test split.
    """
    if not names:
        raise RefusedInput("hydra.sweeper.objectives names nothing to search for. Try [objective,nfe].")
    return [_objective(name, task, model) for name in names]


def check_prunable(wanted: Sequence[Objective], measured: Objective, *, launcher: str) -> None:
    """Checks what trials that may be ended early are compared by.

    Args:
        wanted: the objectives of the search.
        measured: what validation measures after each epoch.
        launcher: the class of that which runs the trials.

    Raises:
        RefusedInput: there are several, or one that is known at the end alone; or trials run on other machines.
    """
    if [objective.name for objective in wanted] != [measured.name]:
        names = ",".join(objective.name for objective in wanted)
        raise RefusedInput(
            f"hydra.sweeper.pruner compares trials by {measured.name}, which is measured after each epoch, and this "
            f"search is for [{names}]. Use hydra.sweeper.objectives=[objective], or leave the pruner out."
        )
    if launcher not in (BASIC_LAUNCHER, JOBLIB_LAUNCHER):
        raise RefusedInput(
            "hydra.sweeper.pruner needs trials on this machine, for all write to one file of SQLite. Use "
            "hydra/launcher=local, or leave the pruner out."
        )


def _objective(name: str, task: type[Task], model: type[Model]) -> Objective:
    match name:
        case "objective":
            chosen_by, higher_is_better = criterion(task, model)
            shown, way = f"eval/{chosen_by}", 1 if higher_is_better else -1
            return Objective(name=shown, direction=way, of=lambda run: run.measurements.get(shown))
        case "nfe":
            return Objective(name="nfe", direction=-1, of=_nfe)
    if name.rpartition("/")[2] == "class_accuracy":
        raise RefusedInput(
            f"hydra.sweeper.objectives: '{name}' is reached by a model that makes the mean image of each class, and so "
            "nothing of their variety. Use objective."
        )
    if name.startswith("test/"):
        raise RefusedInput(
            f"hydra.sweeper.objectives: a search that sees '{name}' leaves nothing to judge its outcome by. "
            "Use objective, which is the task's own on validation."
        )
    if not direction(name):
        raise RefusedInput(
            f"hydra.sweeper.objectives: is '{name}' better high or low? Try objective, nfe, cost/saved_bytes or "
            "cost/train_seconds."
        )
    return Objective(name=name, direction=direction(name), of=lambda run: run.measurements.get(name))


def _nfe(run: Run) -> float | None:
    """None of a run that uses no solver: it is no cheaper for that."""
    counts = [run.measurements.get(name) for name in NFE]
    return sum(count for count in counts if count is not None) if counts[0] is not None else None


def reached(record: RunRecord, folder: Path, wanted: Sequence[Objective]) -> list[float]:
    """The objectives of a completed run.

    Raises:
        RefusedInput: one of them was not measured, or is not a number.
    """
    run = Run(folder=folder, record=record)
    values = {objective.name: objective.of(run) for objective in wanted}
    for name, value in values.items():
        if value is None or not math.isfinite(value):
            raise RefusedInput(f"it has no {name}" if value is None else f"its {name} is {value}")
    return [value for value in values.values() if value is not None]
