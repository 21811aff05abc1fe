"""The classes behind the choices of a group, for messages that name suitable choices."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from ode_runner.building.group_types import HOLDS, load_class
from ode_runner.config.help import conf_dir, targets_in, user_folders
from ode_runner.errors import RefusedInput, can_be_typed

# (group, name) -> whether this choice would be accepted instead of the one typed.
Accepts = Callable[[str, str], bool]
_accepts: ContextVar[Accepts | None] = ContextVar("accepts", default=None)


def members(group: str) -> dict[str, type]:
    """The classes of all choices that could be typed for `group`, by name, except those that cannot be loaded."""
    paths = [path for folder in _folders() for path in sorted((folder / group).glob("*.yaml"))]
    found = {name: member(group, name) for name in dict.fromkeys(path.stem for path in paths)}
    return {name: one for name, one in found.items() if one is not None}


def member(group: str, name: str) -> type | None:
    """The class of the choice `name` of `group`; None if there is no such choice, or it cannot be loaded."""
    for folder in _folders():
        if targets := targets_in(folder / group / f"{name}.yaml"):
            with suppress(RefusedInput):
                return load_class(targets[0], (HOLDS[group],), group)
    return None


def _folders() -> list[Path]:
    return [conf_dir(), *user_folders(sys.argv[1:])]


@contextmanager
def accepting(accepts: Accepts | None) -> Iterator[None]:
    """Inside, messages do not suggest choices that would be refused next, by `accepts`; None: all are suggested."""
    token = _accepts.set(accepts)
    try:
        yield
    finally:
        _accepts.reset(token)


def naming(group: str, choices: Mapping[str, type], able: Callable[[Any], bool]) -> str:
    """`model=cnf, glow or odenet`: the choices whose class is `able`, as one types them; "" if there are none.

    Choices that would be refused for another reason are left out, unless all of them would be refused.
    """
    return ways((group, [name for name, chosen in choices.items() if able(chosen)]))


def ways(*several: tuple[str, Sequence[str]]) -> str:
    """`solver=heun or rk4, or model=odenet`: choices of several groups, as one types them; "" if there are none.

    Choices that would be refused are left out, unless all of them would be refused.
    """
    accepts = _accepts.get()
    typed = [(group, names) for group, names in several if names and can_be_typed(group)] or several
    kept = [(group, [name for name in names if _accepted(accepts, group, name)]) for group, names in typed]
    left = kept if any(names for _, names in kept) else typed
    return ", or ".join(f"{group}={_listed(names)}" for group, names in left if names)


def _accepted(accepts: Accepts | None, group: str, name: str) -> bool:
    """`accepts` tells it of choices, and not of options such as model.damping."""
    return accepts is None or "." in group or accepts(group, name)


def _listed(names: Sequence[str]) -> str:
    """`a, b or c`."""
    return " or ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
