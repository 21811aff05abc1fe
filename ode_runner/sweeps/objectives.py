"""The objectives of a search: metrics or costs of a run, and whether higher or lower is better."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ode_runner.errors import RefusedInput
from ode_runner.experiment.criterion import criterion
from ode_runner.models.base import Model
from ode_runner.recording.record import RunRecord
from ode_runner.report.quantities import direction
from ode_runner.report.runs import Run
from ode_runner.sweeps.launchers import BASIC_LAUNCHER, JOBLIB_LAUNCHER
from ode_runner.tasks.base import Task

USUAL = "the task's own"  # if a record does not say what a metric was measured with
NFE = ("cost/nfe_forward", "cost/nfe_backward")


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A number that a search maximises or minimises."""

    name: str  # as shown
    direction: int  # +1: higher is better, -1: lower is
    typed: str = ""  # as `objective` for eval/loss
    of: Callable[[Run], float | None]  # None if the run has no such number

    @property
    def counts_evaluations(self) -> bool:
        """Whether it is a number of evaluations, which a model without a field does not have."""
        return self.name.rpartition("/")[2].startswith("nfe")

    @property
    def of_training(self) -> bool:
        """Whether only a run that learns something has it: a validation, or a cost of a training step."""
        return self.name == "nfe" or self.name.startswith(("eval/", "cost/nfe_"))


def objectives(names: Sequence[str], task: type[Task], model: type[Model]) -> list[Objective]:
    """The objectives by typed names: `objective` is the criterion of best weights on validation; `nfe` per step.

    Raises:
        RefusedInput: it is not known whether a number should be high or low, it is of the test split, or named twice.
    """
    if not names:
        raise RefusedInput("hydra.sweeper.objectives names nothing to search for. Try [objective,nfe].")
    found = [replace(_objective(name, task, model), typed=name) for name in names]
    if twice := [one for one, count in Counter(objective.name for objective in found).items() if count > 1]:
        raise RefusedInput(
            f"hydra.sweeper.objectives=[{','.join(names)}] names {twice[0]} twice. Name each objective once."
        )
    return found


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


def measured_with(record: RunRecord, wanted: Sequence[Objective]) -> dict[str, str]:
    """What the objectives were measured with, by name, where the run says so: they are comparable within that alone."""
    found = {
        objective.name: record.measured_with.get(objective.name)
        or record.measured_with.get(objective.name.replace("eval/", "test/", 1))
        for objective in wanted
    }
    return {name: thing for name, thing in found.items() if thing}


def check_same_thing(own: Mapping[str, str], others: Mapping[str, str]) -> None:
    """Raises RefusedInput if an objective of a trial was measured with something else than that of others."""
    for name in own.keys() | others.keys():
        if own.get(name) != others.get(name):
            raise RefusedInput(
                f"its {name} is {own.get(name, USUAL)}, and is not comparable with that of the first trial with a "
                f"result, which is {others.get(name, USUAL)}"
            )
