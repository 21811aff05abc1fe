"""The regularisers that a configuration chooses: none, one or several, by the keys under `regularizer`."""

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig

from ode_runner.building.instantiate import construct, target_of
from ode_runner.building.members import members, naming
from ode_runner.building.several import chosen
from ode_runner.errors import IncompatibleChoice, RefusedInput
from ode_runner.models.base import Model, Numerics
from ode_runner.objectives.base import Objective
from ode_runner.objectives.regularized import Regularized
from ode_runner.recording.record import NONE, UNUSED
from ode_runner.regularizers.base import PathRegularizer, Regularizer
from ode_runner.solvers.base import Solver

GROUP = "regularizer"


def regularizer_axis(cfg: DictConfig, model: type[Model] | None) -> str:
    """The choice as in a record, such as `kinetic+steer`, without regularisers that the model does not use.

    `model` is None if the model's class is not known.
    """
    named = chosen(cfg, GROUP)
    used = [name for name in named if model is None or _is_used(named[name], name, model)]
    return "+".join(used) or (UNUSED if named else NONE)


def left_out(cfg: DictConfig, choices: Mapping[str, str]) -> list[str]:
    """A clause about the regularisers that the model does not use, if it uses others: else the whole axis is unused."""
    named, model = chosen(cfg, GROUP), target_of(cfg, "model")
    unused = [name for name in named if not _is_used(named[name], name, model)]
    if not unused or len(unused) == len(named):
        return []
    listed = unused[0] if len(unused) == 1 else f"[{','.join(unused)}]"
    return [f"model={choices['model']} does not use {GROUP}={listed}"]


def build_regularizers(cfg: DictConfig, model: type[Model]) -> dict[str, Regularizer]:
    """The chosen regularisers that the model uses, by name.

    Raises:
        RefusedInput: an option is misspelt, missing or of the wrong type, or a weight is negative.
    """
    made: dict[str, Regularizer] = {}
    for name, options in chosen(cfg, GROUP).items():
        place = f"{GROUP}.{name}"
        regularizer = construct(options, place)
        _check_changes(type(regularizer))
        if not regularizer.weight >= 0:
            raise RefusedInput(f"{place}.weight must be 0 or more, not {regularizer.weight}.")
        if _is_used(options, name, model):
            made[name] = regularizer
    return made


def build_objective(cfg: DictConfig, model: Model) -> Objective[Any]:
    """The model's objective, with the chosen regularisers."""
    regularizers = build_regularizers(cfg, type(model))
    for regularizer in regularizers.values():
        regularizer.check(model)
    return Regularized(model.objective, regularizers) if regularizers else model.objective


def _check_changes(kind: type[Regularizer]) -> None:
    """Raises RefusedInput for a class that neither has a price nor changes the times."""
    hooks = ("last_time", "of_states", "penalty")
    if not issubclass(kind, PathRegularizer) and all(
        getattr(kind, name) is getattr(Regularizer, name) for name in hooks
    ):
        raise RefusedInput(
            f"{kind.__name__} changes nothing: a regulariser defines {', '.join(hooks[:-1])} or {hooks[-1]}, or is a "
            "PathRegularizer."
        )


def check_regularizers(choices: Mapping[str, str], cfg: DictConfig, model: type[Model], solver: Solver) -> None:
    """Raises IncompatibleChoice if a regulariser does not apply to the model, or the solver cannot integrate it."""
    made = build_regularizers(cfg, model)
    for name, one in made.items():
        if not one.takes(model):
            raise IncompatibleChoice(
                f"{GROUP}={name} needs {one.requirement}, and model={choices['model']} has none. "
                f"Use {naming('model', members('model'), one.takes)}."
            )
    names = [name for name, one in made.items() if isinstance(one, PathRegularizer)]
    try:
        if names:
            solver.check_integrals()
    except IncompatibleChoice as refusal:
        raise IncompatibleChoice(f"{GROUP}={'+'.join(names)} is an integral along the solve. {refusal}") from refusal


def _is_used(options: DictConfig, name: str, model: type[Model]) -> bool:
    solves = model.numerics is not Numerics.NONE and model.objective.solves
    try:
        regularizer: type[Regularizer] = target_of(options, f"{GROUP}.{name}")
    except RefusedInput:
        return True  # the error is reported when the run is built
    return model.numerics is not Numerics.SOLVER and regularizer.is_used(model, solves=solves)
