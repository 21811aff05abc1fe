"""Cells that are listed one by one, for sweeps that are not a product of values."""

import re
import shlex
from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType

from ode_runner.config.overrides import check_overrides
from ode_runner.config.unused_words import COMMON
from ode_runner.errors import RefusedInput
from ode_runner.recording.bookkeeping import COMMANDS

OPTION = "hydra.sweeper.cells"
EXAMPLE = """'hydra.sweeper.cells=["solver=euler solver.num_steps=4","solver=rk4 solver.num_steps=1"]'"""


def listed(entries: object, parser: OverridesParser) -> list[dict[str, Override]]:
    """The overrides of each listed cell, by option; without a list, one cell without overrides.

    Raises:
        RefusedInput: an entry, or a word in it, is not valid; the message names it.
    """
    if entries is None:
        return [{}]
    if isinstance(entries, str) or not isinstance(entries, Sequence) or not entries:
        raise RefusedInput(f"{OPTION}={entries} is no list of cells. Type {EXAMPLE}, say.")
    return [_cell(entry, parser) for entry in entries]


def check_apart(cell: dict[str, Override], by_key: dict[str, Override]) -> None:
    """Raises RefusedInput if an option of a listed cell is also typed for all cells, or set by a preset."""
    for key, override in cell.items():
        if other := next((other for name, other in by_key.items() if name.lstrip("+~") == key), None):
            raise RefusedInput(
                f"{override.input_line} in {OPTION}, and {other.input_line} beside it: {key} has one value in a cell. "
                "Leave one of them out."
            )


def _cell(entry: object, parser: OverridesParser) -> dict[str, Override]:
    words = _words(entry)
    check_overrides(words)
    by_key: dict[str, Override] = {}
    for override in parser.parse_overrides(words):
        _check_one_value(override)
        if by_key.setdefault(override.get_key_element(), override) is not override:
            raise RefusedInput(f"{OPTION}: {' '.join(words)} names {override.get_key_element()} twice.")
    return by_key


def _words(entry: object) -> list[str]:
    try:
        words = shlex.split(entry) if isinstance(entry, str) else entry
    except ValueError:
        raise RefusedInput(f"{OPTION}: {entry}: a quotation mark is not closed.") from None
    if not isinstance(words, Sequence) or not words or not all(isinstance(word, str) for word in words):
        raise RefusedInput(f"{OPTION}: {entry!r} is no cell. Write its options as in {EXAMPLE}.")
    return list(words)


def _check_one_value(override: Override) -> None:
    line, root = override.input_line, re.split(r"[./@]", override.key_or_group)[0]
    if override.type is not OverrideType.CHANGE:
        raise RefusedInput(f"{OPTION}: {line}: write options of a cell as key=value.")
    if override.is_sweep_override():
        raise RefusedInput(f"{OPTION}: {line} names several values. List a cell for each, or type it beside the list.")
    if root in COMMON or root in COMMANDS:
        raise RefusedInput(f"{OPTION}: {line}: {root} is the same for all cells of a sweep. Type it beside the list.")
