"""Checks types and shapes of arrays against annotations, when functions are called and dataclasses are made."""

import inspect
from collections.abc import Callable
from typing import Any, Generic, Self, get_origin

from beartype import BeartypeConf, FrozenDict, beartype
from jaxtyping import install_import_hook

CHECKED = [f"ode_runner.{name}" for name in ("solvers", "gradients", "networks", "models", "fields")]

_beartype = beartype(
    conf=BeartypeConf(
        is_pep484_tower=True,  # an int is accepted as a float, as in PEP 484
        hint_overrides=FrozenDict({Self: Any}),  # jaxtyping decorates methods before their class exists
    )
)


def install() -> None:
    """Install the checks for modules that are imported from now on."""
    install_import_hook(CHECKED, "tests.shape_checks.checked")


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """The decorator of the hook: beartype, with generic named tuples, which it does not support, as plain tuples."""
    for name, hint in function.__annotations__.items():
        kind = get_origin(hint) or hint
        if inspect.isclass(kind) and issubclass(kind, tuple) and issubclass(kind, Generic):
            function.__annotations__[name] = tuple
    return _beartype(function)
