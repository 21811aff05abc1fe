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


def _updated(part: re.Match[str]) -> str:
    return f"{part[1]}\n{_text(*part['name'].split())}\n\n{part[4]}"


def _text(part: str, *arguments: str) -> str:
    """`matrix`, `folders`, or `members GROUP`."""
    parts: dict[str, Callable[..., str]] = {"matrix": matrix, "folders": folders, "members": members}
    return parts[part](*arguments)
