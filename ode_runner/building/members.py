"""The classes behind the choices of a group, for messages that name what is able."""

import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from ode_runner.building.group_types import HOLDS, load_class
from ode_runner.config.help import conf_dir, targets_in, user_folders
from ode_runner.errors import RefusedInput


def members(group: str) -> dict[str, type]:
    """The class of every choice that could be typed for `group`, by its name; those that cannot be loaded apart."""
    found: dict[str, type] = {}
    for folder in (conf_dir(), *user_folders(sys.argv[1:])):
        for path in sorted((folder / group).glob("*.yaml")):
            if path.stem not in found and (targets := targets_in(path)):
                with suppress(RefusedInput):
                    found[path.stem] = load_class(targets[0], (HOLDS[group],), group)
    return found


def naming(group: str, choices: Mapping[str, type], able: Callable[[Any], bool]) -> str:
    """`model=cnf, glow or odenet`: the choices whose class is able, as one types them; "" if there are none."""
    names = [name for name, chosen in choices.items() if able(chosen)]
    alternatives = " or ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
    return f"{group}={alternatives}" if names else ""
