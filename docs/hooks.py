"""Included pages: `<!-- include: PATH -->` becomes the text of that file of the repository, without its heading."""

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
INCLUDE = re.compile(r"<!-- include: (\S+) -->")
LINK_WITHIN_THE_REPOSITORY = re.compile(r"\[([^\]]+)\]\([^):#]+\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The hook of MkDocs that is called for every page."""
    return INCLUDE.sub(lambda found: _included(found[1]), markdown)


def _included(path: str) -> str:
    heading, _, text = (ROOT / path).read_text(encoding="utf-8").partition("\n")
    assert heading.startswith("# "), path
    return LINK_WITHIN_THE_REPOSITORY.sub(r"\1", text)  # on the site such a link leads nowhere
