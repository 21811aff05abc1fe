"""Options of the choices of a sweep, typed once for all of its cells."""

from collections.abc import Sequence

from ode_runner.config.help import GROUPS
from ode_runner.config.known_options import has_option, is_swept, known_keys
from ode_runner.config.overrides import is_one_value


def for_each_cell(words: Sequence[str]) -> list[str]:
    """The words, with an option that the default choice of a swept group lacks as a sweep over its one value.

    Hydra applies an option that is typed for all cells before cells have their choices, but one that is swept in each
    cell, after its choice. So `solver=euler,rk4 solver.num_steps=4` becomes `solver.num_steps=choice(4)`.
    """
    candidates = [word for word in words if _is_of_swept_group(word, words)]
    if not candidates:
        return list(words)
    known = known_keys(list(words))
    lacking = {word for word in candidates if word.removeprefix("+").partition("=")[0] not in known}
    return [_swept(word) if word in lacking else word for word in words]


def _swept(word: str) -> str:
    key, _, value = word.removeprefix("+").partition("=")
    return f"{key}=choice({value})"


def _is_of_swept_group(word: str, words: Sequence[str]) -> bool:
    """Whether the word sets one value of an option that a choice of a swept group has."""
    key, _, value = word.removeprefix("+").partition("=")
    group, _, leaf = key.partition(".")
    if not value or group not in GROUPS or not is_swept(group, list(words)) or not has_option(group, leaf):
        return False
    return is_one_value(word)
