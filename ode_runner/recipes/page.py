"""Reads the existing page of results, which is the only record of recipes that were run on other machines."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

ESCAPED = "&#124;"  # a vertical bar within a cell
BEFORE = ", before"
RESULT, ORIGIN = 8, 7  # number of cells in a row of results, and of origins

Cells = list[str]


@dataclass(kw_only=True)
class Page:
    """The rows of the page, as text."""

    results: dict[tuple[str, str], Cells] = field(default_factory=dict)  # other cells, by recipe and what is measured
    origins: dict[str, list[Cells]] = field(default_factory=dict)  # whole rows, by recipe
    failures: dict[str, list[str]] = field(default_factory=dict)  # lines, by recipe

    @classmethod
    def read(cls, path: Path) -> "Page":
        """The page in a file; an empty page if the file does not exist or contains something else."""
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
    """A Markdown table that `Page.read` can read."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', ESCAPED) for cell in line)} |\n" for line in lines)


def before(origins: Sequence[Cells]) -> list[Cells]:
    """The rows about the origin of older results, which remain when some results of a recipe are newer."""
    older = [cells for cells in origins if cells[0].endswith(BEFORE)]
    return older or [[cells[0] + BEFORE, *cells[1:]] for cells in origins]
