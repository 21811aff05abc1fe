"""Checks choices within choices, such as the base of a coupled solver: `solver@solver.base=rk4`."""

import inspect
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig

from ode_runner.building.group_types import HOLDS, load_class
from ode_runner.building.members import accepting, members, ways
from ode_runner.errors import RefusedInput


def check_inner_choices(options: Mapping[str, Any], hints: Mapping[str, Any], place: str) -> None:
    """Raises RefusedInput for a choice of another kind than its option takes; the message names those that it takes.

    Args:
        options: of an object, by name.
        hints: the types of these options.
        place: the object's place in the configuration, such as "solver".
    """
    for name, value in options.items():
        hint = hints.get(name)
        if isinstance(value, DictConfig) and "_target_" in value and inspect.isclass(hint):
            for group, held in HOLDS.items():
                if issubclass(hint, held):
                    _check(load_class(value["_target_"], (held,), f"{place}.{name}"), hint, group, f"{place}.{name}")


def _check(chosen: type, wanted: type, group: str, place: str) -> None:
    if issubclass(chosen, wanted):
        return
    classes = members(group)
    typed = next((name for name, one in classes.items() if one is chosen), chosen.__name__)
    able = [name for name, one in classes.items() if issubclass(one, wanted)]
    kind = getattr(chosen, "kind", f"a {chosen.__name__}")
    with accepting(None):
        instead = ways((f"{group}@{place}", able))
    needed = getattr(wanted, "in_words", f"a {wanted.__name__}")
    raise RefusedInput(f"{place} takes {needed}, and {typed} is {kind}. Use {instead}.")
