"""Remarks of the cells of a sweep, of which those that differ in their numbers alone are printed once."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

NUMBER = re.compile(r"\d[\d.,:]*(e[-+]?\d+)?")
_repeats: dict[str, list[str]] | None = None  # by a remark without its numbers, the cells it was of; None: no sweep


@contextmanager
def each_once() -> Iterator[dict[str, list[str]]]:
    """Within, `is_first` tells a remark from its repetitions; gives the cells that were told each, by its kind."""
    global _repeats
    before, _repeats = _repeats, {}
    try:
        yield _repeats
    finally:
        _repeats = before


def is_first(remark: str, *, of: str) -> bool:
    """Whether no cell has been told the same, but for its numbers; True in a process that has no sweep."""
    if _repeats is None:
        return True
    cells = _repeats.setdefault(NUMBER.sub("#", remark), [])
    cells.append(of)
    return len(cells) == 1


def summaries(repeats: dict[str, list[str]]) -> list[str]:
    """A sentence for each remark that was printed of the first of several cells."""
    return [
        f"the warning of {cells[0]} holds for {len(cells) - 1} more, with numbers of their own: see their ode-run.log"
        for cells in repeats.values()
        if len(cells) > 1
    ]
