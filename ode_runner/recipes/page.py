"""Reads the page of results as it is: results of recipes that were run elsewhere stand nowhere else."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

ESCAPED = "&#124;"  # a bar within a cell
BEFORE = ", before"
RESULT, ORIGIN = 8, 7  # how many cells a row has

Cells = list[str]


@dataclass(kw_only=True)
class Page:
    """Rows as they were written, in words."""

    results: dict[tuple[str, str], Cells] = field(default_factory=dict)  # by recipe and what is measured, without them
    origins: dict[str, list[Cells]] = field(default_factory=dict)  # by recipe, with its name
    failures: dict[str, list[str]] = field(default_factory=dict)  # lines by recipe

    @classmethod
    def read(cls, path: Path) -> "Page":
        """The page in a file; an empty one where there is none, or another text."""
        page, recipe = cls(), ""
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            return page
        for line in lines:
            cells = [cell.strip().replace(ESCAPED, "|") for cell in line.split("|")[1:-1]]
            named = re.match(r"(?:- )?\[?`(\w+)`", cells[0] if cells else line)
            recipe = named[1] if named else recipe
            if len(cells) == RESULT and recipe:
                page.results[recipe, cells[1]] = cells[2:]
            elif len(cells) == ORIGIN and named:
                page.origins.setdefault(recipe, []).append(cells)
            elif not cells and named:
                page.failures.setdefault(recipe, []).append(line)
        return page


def written(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table that can be read back."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', ESCAPED) for cell in line)} |\n" for line in lines)


def before(origins: Sequence[Cells]) -> list[Cells]:
    """Those rows on where a recipe's results are from that stay when some results are newer."""
    older = [cells for cells in origins if cells[0].endswith(BEFORE)]
    return older or [[cells[0] + BEFORE, *cells[1:]] for cells in origins]
