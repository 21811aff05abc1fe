"""The objectives of a search: metrics or costs of a run, and whether higher or lower is better."""

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
from ode_runner.sweeps.launchers import BASIC_LAUNCHER, JOBLIB_LAUNCHER
from ode_runner.tasks.base import Task

NFE = ("cost/nfe_forward", "cost/nfe_backward")


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A number that a search maximises or minimises."""

    name: str  # as shown
    direction: int  # +1: higher is better, -1: lower is
    of: Callable[[Run], float | None]  # None if the run has no such number


def objectives(names: Sequence[str], task: type[Task], model: type[Model]) -> list[Objective]:
    """The objectives by typed names: `objective` is the criterion of best weights on validation; `nfe` per step.

    Raises:
        RefusedInput: it is not known whether a number should be high or low, or it is of the test split.
    """
    if not names:
        raise RefusedInput("hydra.sweeper.objectives names nothing to search for. Try [objective,nfe].")
    return [_objective(name, task, model) for name in names]


def check_prunable(wanted: Sequence[Objective], measured: Objective, *, launcher: str) -> None:
    """Checks that trials can be compared, and ended early, during training.

    Args:
        wanted: the objectives of the search.
        measured: the objective that validation measures after each epoch.
        launcher: the class of the launcher.

    Raises:
        RefusedInput: there are several objectives, or one that is known only at the end; or trials run elsewhere.
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
            f"hydra.sweeper.objectives: '{name}' is reached by a model that generates only the mean image of each "
            "class, without variety. Use objective."
        )
    if name.startswith("test/"):
        raise RefusedInput(
            f"hydra.sweeper.objectives: a search that sees '{name}' leaves nothing to evaluate its outcome with. "
            "Use objective, which is the task's own on validation."
        )
    if not direction(name):
        raise RefusedInput(
            f"hydra.sweeper.objectives: is '{name}' better high or low? Try objective, nfe, cost/saved_bytes or "
            "cost/train_seconds."
        )
    return Objective(name=name, direction=direction(name), of=lambda run: run.measurements.get(name))


def _nfe(run: Run) -> float | None:
    """Evaluations forward and backward; None for a run without a solver, which is not cheaper for that reason."""
    counts = [run.measurements.get(name) for name in NFE]
    return sum(count for count in counts if count is not None) if counts[0] is not None else None


def reached(record: RunRecord, folder: Path, wanted: Sequence[Objective]) -> list[float]:
    """The objectives of a completed run.

    Raises:
        RefusedInput: one of them was not measured, is not a number, or is not what its name says.
    """
    run = Run(folder=folder, record=record)
    values = {objective.name: objective.of(run) for objective in wanted}
    for name, value in values.items():
        if value is None or not math.isfinite(value):
            raise RefusedInput(f"it has no {name}" if value is None else f"its {name} is {value}")
        if name in record.invalid:
            raise RefusedInput(f"its {name} {record.invalid[name]}")
    return [value for value in values.values() if value is not None]
