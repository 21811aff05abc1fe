"""Types and shapes of arrays, as annotated, checked where functions are called and dataclasses made."""

import inspect
from collections.abc import Callable
from typing import Any, Generic, Self, get_origin

from beartype import BeartypeConf, FrozenDict, beartype
from jaxtyping import install_import_hook

CHECKED = [f"ode_runner.{name}" for name in ("solvers", "gradients", "networks", "models", "fields")]

_beartype = beartype(
    conf=BeartypeConf(
        is_pep484_tower=True,  # an int where a float is asked for, as the language has it
        hint_overrides=FrozenDict({Self: Any}),  # jaxtyping decorates methods one by one, of no class yet
    )
)


def install() -> None:
    """For what is imported from here on."""
    install_import_hook(CHECKED, "tests.shape_checks.checked")


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """What the hook decorates functions with: beartype, which cannot read named tuples that are generic."""
    for name, hint in function.__annotations__.items():
        kind = get_origin(hint) or hint
        if inspect.isclass(kind) and issubclass(kind, tuple) and issubclass(kind, Generic):
            function.__annotations__[name] = tuple
    return _beartype(function)
