"""Paths for messages, relative to the working directory."""

import os
from pathlib import Path


def relative_path(path: str | Path, start: str | Path = os.curdir) -> Path:
    """`path` relative to `start`; the whole path if there is no relative one, as between drives of Windows."""
    try:
        return Path(os.path.relpath(path, start))
    except ValueError:
        return Path(path)
