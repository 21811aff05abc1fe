"""Generated parts of the pages: each stands between `<!-- generated: NAME -->` and `<!-- end -->`."""

import re
from pathlib import Path

from tests.documentation.choices import matrix, members

DOCS = Path(__file__).parents[2] / "docs"
PART = re.compile(r"(<!-- generated: (?P<name>[\w ./]+) -->\n)(?P<text>.*?)(<!-- end -->)", re.DOTALL)


def generated() -> dict[Path, str]:
    """Every page of docs/ that has a generated part, with the text that it should have."""
    pages = {path: path.read_text(encoding="utf-8") for path in sorted(DOCS.glob("*.md"))}
    return {path: PART.sub(_updated, text) for path, text in pages.items() if PART.search(text)}


def _updated(part: re.Match[str]) -> str:
    return f"{part[1]}\n{_text(part['name'])}\n\n{part[4]}"


def _text(name: str) -> str:
    """The part of this name: `matrix`, or `members GROUP`."""
    word, _, group = name.partition(" ")
    if word == "members":
        return members(group)
    assert word == "matrix", f"docs/ names a generated part that does not exist: {name}"
    return matrix()
