"""Paths as a person reads them: from the working directory on."""

import os
from pathlib import Path


def relative_path(path: str | Path, start: str | Path = os.curdir) -> Path:
    """The way from `start` to `path`; the whole path where there is none, as between drives of Windows."""
    try:
        return Path(os.path.relpath(path, start))
    except ValueError:
        return Path(path)
