"""Options of which exactly one is set: one that is typed alone takes the place of the other."""

import re
from collections.abc import Sequence

ALTERNATIVES = (("solver.num_steps", "solver.step_size"),)


def one_of_each(words: Sequence[str]) -> list[str]:
    """The overrides of one run, with `other=null` after one that is typed alone, so that its record says both.

    Words that name several values are left for the cells of their sweep. Both typed are left for the solver to refuse.
    """
    typed = {word.lstrip("+").partition("=")[0]: word.partition("=")[2] for word in words}
    added = []
    for pair in ALTERNATIVES:
        for option, other in (pair, pair[::-1]):
            if option in typed and other not in typed and _sets(typed[option]):
                added.append(f"{other}=null")
    return [*words, *added]


def _sets(value: str) -> bool:
    """Whether a word gives its option one value, and not null."""
    return bool(value) and value.lower() != "null" and not re.search(r"[,(]", value)
