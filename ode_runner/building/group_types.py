"""Loads the classes that a configuration names. Only subclasses of a group's type are built, never other callables."""

import inspect
import logging
import typing
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig, ListConfig
from torch import nn
from torch.optim import Optimizer

from ode_runner.analysis.diagnostics import Diagnostics
from ode_runner.errors import RefusedInput
from ode_runner.experiment.options import TrainerOptions
from ode_runner.gradients.base import GradientMode
from ode_runner.models.base import Model
from ode_runner.networks.base import Network
from ode_runner.recording.logger import MetricLogger
from ode_runner.regularizers.base import Regularizer
from ode_runner.solvers.base import Solver
from ode_runner.tasks.base import Task
from ode_runner.training.schedules import Schedule

HOLDS: dict[str, type] = {
    "task": Task,
    "model": Model,
    "network": Network,
    "solver": Solver,
    "gradient": GradientMode,
    "regularizer": Regularizer,
    "optimizer": Optimizer,
    "schedule": Schedule,
    "trainer": TrainerOptions,
    "logger": MetricLogger,
    "diagnostics": Diagnostics,
}
ANYWHERE = (*HOLDS.values(), nn.Module)  # allowed for options without a declared type


def load_class(target: object, holds: tuple[type, ...], where: str) -> type:
    """The class with a dotted name; its module is imported.

    Raises:
        RefusedInput: it cannot be loaded, or is not a subclass of `holds`. `where` is its place in the configuration,
            such as "solver.base".
    """
    try:
        with _without_hydras_lines():
            loaded = get_object(str(target))
    except Exception as error:  # whatever the user's module raises while it is imported
        causes = [error.__cause__ or error.__context__, error]
        cause = next(cause for cause in causes if cause is not None)
        if isinstance(cause, RefusedInput):  # of a class's own parts, such as the tableau of a method
            raise RefusedInput(f"{where}: {target}: {cause}") from error
        said = f"{where}: cannot load {target} ({type(cause).__name__}: {cause})."
        raise RefusedInput(said + _where_to_type(str(target), cause)) from error
    if not (inspect.isclass(loaded) and issubclass(loaded, holds)):
        needed = f"{holds[0].__module__}.{holds[0].__qualname__}" if len(holds) == 1 else "what a group holds"
        raise RefusedInput(f"{where}: {target} is not built, because it is not a subclass of {needed}.")
    return loaded


@contextmanager
def _without_hydras_lines() -> Iterator[None]:
    """Inside, Hydra logs nothing about what it cannot load, which is reported here."""
    logger = logging.getLogger("hydra.utils")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _where_to_type(target: str, cause: BaseException) -> str:
    """What to do if the module of the class itself was not found; otherwise ""."""
    module = target.partition(".")[0]
    if not isinstance(cause, ModuleNotFoundError) or cause.name != module:
        return ""
    if Path(f"{module}.py").exists():  # a command looks there, a script of another folder does not
        return f" {module}.py is in this folder, which Python does not search here: type PYTHONPATH=. before python."
    return (
        f" Modules of one's own are found in the folder where a command is typed: type it in that of {module}.py, or "
        "name that folder in PYTHONPATH."
    )


def check_classes(options: Mapping[str, Any], hints: Mapping[str, Any], where: str) -> None:
    """Raises RefusedInput unless each object inside the options is of the type declared for it."""
    for name, value in options.items():
        _check_class(value, hints.get(name, Any), f"{where}.{name}")


def _check_class(value: Any, hint: Any, where: str) -> None:
    if isinstance(value, ListConfig):
        for inner in value:
            _check_class(inner, (*typing.get_args(hint), Any)[0], where)
    elif isinstance(value, DictConfig):
        inner_hints: Mapping[str, Any] = {}
        if "_target_" in value:
            inner_hints = type_hints(load_class(value["_target_"], _held(hint), where))
        check_classes({str(key): inner for key, inner in value.items()}, inner_hints, where)


def _held(hint: Any) -> tuple[type, ...]:
    """The classes that an annotation admits."""
    members = [typing.get_origin(member) or member for member in (typing.get_args(hint) or (hint,))]
    return tuple(member for member in members if inspect.isclass(member)) or ANYWHERE


def type_hints(target: Any) -> dict[str, Any]:
    """The type hints of a class's constructor arguments, or of a function's; empty if they cannot be resolved."""
    try:
        return typing.get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except (NameError, TypeError):  # somebody else's class
        return {}
