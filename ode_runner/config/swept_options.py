"""Options of the choices of a sweep, typed once for all of its cells."""

from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from ode_runner.config.help import GROUPS
from ode_runner.config.known_options import has_option, is_swept, known_keys


def for_each_cell(words: Sequence[str]) -> list[str]:
    """The words, with an option that the default choice of a swept group lacks as a sweep over its one value.

    Hydra applies an option that is typed for all cells before cells have their choices, but one that is swept in each
    cell, after its choice. So `solver=euler,rk4 solver.num_steps=4` becomes `solver.num_steps=choice(4)`.
    """
    candidates = [word for word in words if _is_of_swept_group(word, words)] if _is_sweep(words) else []
    if not candidates:
        return list(words)
    known = known_keys(list(words))
    lacking = {word for word in candidates if word.removeprefix("+").partition("=")[0] not in known}
    return [_swept(word) if word in lacking else word for word in words]


def _swept(word: str) -> str:
    key, _, value = word.removeprefix("+").partition("=")
    return f"{key}=choice({value})"


def _is_sweep(words: Sequence[str]) -> bool:
    return not {"-m", "--multirun"}.isdisjoint(words)


def _is_of_swept_group(word: str, words: Sequence[str]) -> bool:
    """Whether the word sets one value of an option that a choice of a swept group has."""
    key, _, value = word.removeprefix("+").partition("=")
    group, _, leaf = key.partition(".")
    if not value or group not in GROUPS or not is_swept(group, list(words)) or not has_option(group, leaf):
        return False
    try:
        [override] = OverridesParser.create().parse_overrides([word])
    except HydraException:  # which is reported later
        return False
    return not override.is_sweep_override()
