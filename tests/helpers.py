"""What several test modules need."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from ode_runner.help import conf_dir


def options(group: str) -> list[str]:
    """Every choice of a group: the yaml folder is the registry, so a new member is tested by existing."""
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))


def ode_run(
    *arguments: str, cwd: Path, env: Mapping[str, str] | None = None, timeout: float = 240
) -> subprocess.CompletedProcess[str]:
    """The installed program, as a user runs it; small runs are single-threaded so that tests can run side by side."""
    script = Path(sys.executable).with_name("ode-run")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **(env or {})}
    return subprocess.run(
        [str(script), *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout
    )
