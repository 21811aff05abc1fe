"""The folder of data files."""

import os
from pathlib import Path


def data_folder(data_dir: str | None) -> Path:
    """The given folder, else the one in the environment variable ODE_RUN_DATA, else `data` in the working directory."""
    return Path(data_dir or os.environ.get("ODE_RUN_DATA") or "data")
