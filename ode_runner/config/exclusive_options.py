"""Pairs of options of which exactly one is set: typing one of them sets the other to null."""

import re
from collections.abc import Sequence

ALTERNATIVES = (("solver.num_steps", "solver.step_size"),)


def one_of_each(words: Sequence[str]) -> list[str]:
    """The overrides of one run, with `other=null` added if only one option of a pair is typed.

    The record of the run then has both. A word with several values is left as it is: each cell of the sweep is treated
    by itself. If both options are typed, the solver refuses them.
    """
    typed = {word.lstrip("+").partition("=")[0]: word.partition("=")[2] for word in words}
    forced = {word.lstrip("+").partition("=")[0] for word in words if word.startswith("++")}
    added = []
    for pair in ALTERNATIVES:
        for option, other in (pair, pair[::-1]):
            if option in typed and other not in typed and _sets(typed[option]):
                added.append(f"{'++' if option in forced else ''}{other}=null")
    return [*words, *added]


def _sets(value: str) -> bool:
    """Whether the text sets an option to one value other than null."""
    return bool(value) and value.lower() != "null" and not re.search(r"[,(]", value)
