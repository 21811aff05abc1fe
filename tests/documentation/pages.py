"""Generated parts of the pages: each stands between `<!-- generated: NAME -->` and `<!-- end -->`."""

import re
from collections.abc import Callable
from pathlib import Path

from tests.documentation.choices import matrix, members
from tests.documentation.imports import drawing, folders

DOCS = Path(__file__).parents[2] / "docs"
DRAWING = DOCS / "assets" / "imports.svg"
PART = re.compile(r"(<!-- generated: (?P<name>[\w ./]+) -->\n)(?P<text>.*?)(<!-- end -->)", re.DOTALL)


def generated() -> dict[Path, str]:
    """The drawing of imports and every page of docs/ that has a generated part, with the text that each should have."""
    pages = {path: path.read_text(encoding="utf-8") for path in sorted(DOCS.glob("*.md"))}
    updated = {path: PART.sub(_updated, text) for path, text in pages.items() if PART.search(text)}
    return {**updated, DRAWING: drawing()}


def parts() -> list[tuple[str, str]]:
    """The parts as they stand in the pages: a name (`matrix`, `folders`, or `members GROUP`) and the text."""
    found = (part for path in sorted(DOCS.glob("*.md")) for part in PART.finditer(path.read_text(encoding="utf-8")))
    return [(part["name"], part["text"]) for part in found]


def text_of(name: str) -> str:
    """The part of a name as it should be."""
    part, *arguments = name.split()
    made: dict[str, Callable[..., str]] = {"matrix": matrix, "folders": folders, "members": members}
    return f"\n{made[part](*arguments)}\n\n"


def _updated(part: re.Match[str]) -> str:
    return f"{part[1]}{text_of(part['name'])}{part[4]}"
