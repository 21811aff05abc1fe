"""Where files of data are looked for that no option names."""

import os
from pathlib import Path


def place_of(data_dir: str | None) -> Path:
    """The folder named, or that of the environment, or `data` in the working directory."""
    return Path(data_dir or os.environ.get("ODE_RUN_DATA") or "data")
