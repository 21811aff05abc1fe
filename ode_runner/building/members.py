"""The classes behind the choices of a group, for messages that name what is able."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from ode_runner.building.group_types import HOLDS, load_class
from ode_runner.config.help import conf_dir, targets_in, user_folders
from ode_runner.errors import RefusedInput

# Whether a group's choice of this name would be accepted in the place of the one typed.
Accepts = Callable[[str, str], bool]
_accepts: ContextVar[Accepts | None] = ContextVar("accepts", default=None)


def members(group: str) -> dict[str, type]:
    """The class of every choice that could be typed for `group`, by its name; those that cannot be loaded apart."""
    paths = [path for folder in _folders() for path in sorted((folder / group).glob("*.yaml"))]
    found = {name: member(group, name) for name in dict.fromkeys(path.stem for path in paths)}
    return {name: one for name, one in found.items() if one is not None}


def member(group: str, name: str) -> type | None:
    """The class of one choice that could be typed for `group`; None where there is none that can be loaded."""
    for folder in _folders():
        if targets := targets_in(folder / group / f"{name}.yaml"):
            with suppress(RefusedInput):
                return load_class(targets[0], (HOLDS[group],), group)
    return None


def _folders() -> list[Path]:
    return [conf_dir(), *user_folders(sys.argv[1:])]


@contextmanager
def accepting(accepts: Accepts | None) -> Iterator[None]:
    """Within it, lists of what to type instead hold no choice that would be refused next; None: nobody knows."""
    token = _accepts.set(accepts)
    try:
        yield
    finally:
        _accepts.reset(token)


def naming(group: str, choices: Mapping[str, type], able: Callable[[Any], bool]) -> str:
    """`model=cnf, glow or odenet`: the choices whose class is able, as one types them; "" if there are none.

    Those that would be refused for another reason are left out, unless all of them would be.
    """
    return ways((group, [name for name, chosen in choices.items() if able(chosen)]))


def ways(*several: tuple[str, Sequence[str]]) -> str:
    """`solver=heun or rk4, or model=odenet`: choices of one group or another, as one types them; "" without any.

    Those that would be refused are left out, unless all of them would be.
    """
    accepts = _accepts.get()
    kept = [(group, [name for name in names if accepts is None or accepts(group, name)]) for group, names in several]
    left = kept if any(names for _, names in kept) else several
    return ", or ".join(f"{group}={_listed(names)}" for group, names in left if names)


def _listed(names: Sequence[str]) -> str:
    """`a, b or c`."""
    return " or ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
