"""The folder in which files of data are looked for."""

import os
from pathlib import Path


def data_folder(data_dir: str | None) -> Path:
    """The folder that is named, or that of the variable ODE_RUN_DATA, or `data` in the working directory."""
    return Path(data_dir or os.environ.get("ODE_RUN_DATA") or "data")
