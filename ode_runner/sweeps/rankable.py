"""Refuses a search before its first trial if its trials would not have the objectives, or not be comparable by them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException
from omegaconf import DictConfig

from ode_runner.build import build_experiment
from ode_runner.building.instantiate import target_of
from ode_runner.config.help import GROUPS
from ode_runner.errors import RefusedInput
from ode_runner.experiment.process_state import unchanged
from ode_runner.experiment.test_split import LOSSES
from ode_runner.models.base import Model, Numerics
from ode_runner.models.generators.staged import StagedModel
from ode_runner.objectives.base import Objective as Training
from ode_runner.recording.own_warnings import warnings_printed
from ode_runner.report.same_data import NOT_OF_DATA
from ode_runner.sweeps.dry_run import DryRun, unsaid
from ode_runner.sweeps.objectives import USUAL, Objective, objectives
from ode_runner.tasks.base import Task

IN_A_SWEEP = (
    "Run the values that you want to compare as a sweep, without hydra/sweeper=search; ode-report shows what they are "
    "tested with."
)
OWN = f"is {USUAL}"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Trials with the same model and options of the model, which decide what is measured."""

    typed: str  # the swept ones among them
    cfg: DictConfig

    @property
    def model(self) -> type[Model]:
        return target_of(self.cfg, "model")

    @property
    def task(self) -> type[Task]:
        return target_of(self.cfg, "task")

    @property
    def choices(self) -> dict[str, str]:
        return {str(group): str(choice) for group, choice in self.cfg.hydra.runtime.choices.items()}

    def __str__(self) -> str:
        return self.typed or f"model={self.choices['model']}"


def kinds_of_trials(by_key: Mapping[str, Override], compose: Callable[[list[str]], DictConfig]) -> list[Kind]:
    """The kinds of trial whose options can be composed: each swept value of each model, one option at a time.

    Swept options of other parts have their defaults, or the first choice of their group. Without any such kind, the
    only one is that of the options that all trials have in common.
    """
    fixed = [str(override.input_line) for override in by_key.values() if not override.is_sweep_override()]
    swept = {key: _values(override) for key, override in by_key.items() if override.is_sweep_override()}
    groups = [f"{key}={values[0]}" for key, values in swept.items() if key in GROUPS and key != "model"]
    found = []
    for words in dict.fromkeys(_of_models(swept)):
        try:
            found.append(
                Kind(typed=" ".join(word.lstrip("+") for word in words), cfg=compose([*fixed, *groups, *words]))
            )
        except (RefusedInput, HydraException):  # such a trial is skipped, if it is proposed
            continue
    return found or [Kind(typed="", cfg=compose(fixed))]


def _values(override: Override) -> list[Any]:
    """The values of a choice, and both ends of numbers."""
    values = override.value()
    if isinstance(values, IntervalSweep):
        return [values.start, values.end]
    each = list(override.sweep_string_iterator())
    return [each[0], each[-1]] if isinstance(values, RangeSweep) else each


def _of_models(swept: Mapping[str, Sequence[Any]]) -> Iterator[tuple[str, ...]]:
    """Words for each model, with each value of one of its options beside the first values of the others."""
    options = {key: values for key, values in swept.items() if key.lstrip("+").startswith("model.")}
    first = {key: values[0] for key, values in options.items()}
    for model in swept.get("model", [None]):
        chosen = [] if model is None else [f"model={model}"]
        for one in [first, *({**first, key: value} for key, values in options.items() for value in values)]:
            yield (*chosen, *(f"{key}={value}" for key, value in one.items()))


def check_same_data(swept: Sequence[str]) -> None:
    """Raises RefusedInput if trials would have data of different distributions, as options of the task do."""
    others = [key for key in swept if key.startswith("task.") and key not in NOT_OF_DATA]
    if others:
        raise RefusedInput(
            f"a search compares trials with the same data, and {', '.join(others)} makes other data. Type one value, "
            "or run the values as a sweep, without hydra/sweeper=search."
        )


def check_rankable(kinds: Sequence[Kind], names: Sequence[str], *, builds: bool) -> list[Objective]:
    """The objectives of a search that has these kinds of trial.

    Args:
        kinds: the kinds.
        names: the objectives as typed.
        builds: whether objects of the kinds may be made here, to know more of them.

    Raises:
        RefusedInput: some trials would not have an objective, or it would be another quantity in some.
    """
    wanted = [objectives(names, kind.task, kind.model) for kind in kinds]
    for kind, own in zip(kinds, wanted, strict=True):
        _check_ranks(kind, own)
        for one, first in zip(own, wanted[0], strict=True):
            _check_same((kinds[0], f"is {first.name}"), (kind, f"is {one.name}"), what="the objective")
    if builds:
        with unchanged():
            _check_built(kinds, wanted[0])
    return wanted[0]


def _check_same(first: tuple[Kind, str], other: tuple[Kind, str], *, what: str) -> None:
    if first[1] != other[1]:
        raise RefusedInput(
            f"hydra.sweeper.objectives: {what} {first[1]} with {first[0]} and {other[1]} with {other[0]}, which cannot "
            f"be compared. Type one of them for a search. {IN_A_SWEEP}"
        )


def _check_ranks(kind: Kind, wanted: Sequence[Objective]) -> None:
    """Raises RefusedInput if the loss does not tell which of two trials is better."""
    losses = [one.name for one in wanted if one.name in LOSSES]
    of_own = issubclass(kind.model, StagedModel)
    if losses and (of_own or not kind.model.objective.ranks):
        why = "is of pairs that each run makes itself" if of_own else "compares a model's answers with each other"
        raise RefusedInput(
            f"hydra.sweeper.objectives: {losses[0]} of model={kind.choices['model']} {why}, and a smaller one does not "
            f"mean a better model. {IN_A_SWEEP}"
        )


@warnings_printed(unsaid)
def _check_built(kinds: Sequence[Kind], wanted: Sequence[Objective]) -> None:
    """Checks that need objects: those of a kind are made only if its model's class leaves a question open."""
    tasks: dict[str, Task] = {}
    losses = [one.name for one in wanted if one.name in LOSSES]
    first: tuple[Kind, str] | None = None
    for kind in kinds:
        measures = bool(losses) and type(kind.model.objective).measures is not Training.measures
        unclear = measures or kind.model.numerics in (Numerics.SOLVER, Numerics.EQUATION)
        meaning = _meaning(kind, wanted, tasks) if unclear else OWN
        if losses and meaning is not None:
            first = first or (kind, meaning)
            _check_same(first, (kind, meaning), what=losses[0])
        if kind.model.numerics is Numerics.NONE:
            _check_evaluations(kind, wanted)


def _meaning(kind: Kind, wanted: Sequence[Objective], tasks: dict[str, Task]) -> str | None:
    """What the loss is, as a clause; None if such a trial would be refused or fail."""
    key = repr(kind.cfg.task)
    try:
        experiment = build_experiment(kind.cfg, kind.choices, task=tasks.get(key))
    except (Exception, SystemExit):  # also of a user's code: it is left to the trials
        return None
    tasks[key] = experiment.task
    learned = [one.name for one in wanted if one.of_training]
    if learned and not experiment.parameters():
        raise RefusedInput(
            f"hydra.sweeper.objectives: {kind} learns nothing, and so has no {' or '.join(learned)}. {IN_A_SWEEP}"
        )
    measured = experiment.objective.measures(experiment.model)
    return f"is {measured}" if measured else OWN


def _check_evaluations(kind: Kind, wanted: Sequence[Objective]) -> None:
    """Raises RefusedInput if evaluations are to be few, and the model makes none: it is not cheaper for that reason."""
    counted = [one.name for one in wanted if one.counts_evaluations]
    if not counted:
        return
    try:
        makes_some = DryRun.of(kind.cfg, kind.choices).evaluations() > 0
    except (Exception, SystemExit):
        return
    if not makes_some:
        others = [one.typed for one in wanted if not one.counts_evaluations] or ["objective"]
        raise RefusedInput(
            f"hydra.sweeper.objectives: {kind} evaluates no field, and so has no {' or '.join(counted)}. Use "
            f"hydra.sweeper.objectives=[{','.join(others)}], or a model that does."
        )
