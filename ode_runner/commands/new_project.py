"""`ode-run new PATH`: writes a small working project, as a starting point for your own."""

import os
import shlex
import shutil
from pathlib import Path

from ode_runner.errors import RefusedInput

PROGRAM = Path(__file__).resolve().parents[1]


def new_project(path: Path) -> None:
    """Write the project and print what to type in it.

    Raises:
        RefusedInput: `path` exists already and is not an empty folder, or it cannot be written.
    """
    path = Path(os.path.normpath(path))  # mine/.. does not exist while mine does not, and would then be filled
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise RefusedInput(
            f"{path} is there already, and is left as it is. Name a folder that is empty or not there yet."
        )
    try:
        shutil.copytree(_template(), path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", "outputs"))
    except OSError as error:
        raise RefusedInput(f"cannot write to {path} ({error.strerror}).") from error
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        print(f"  {file}")
    print(f"\n  cd {shlex.quote(str(path))}\n  ode-run -cd conf task=brusselator model=paced solver=heun3\n  pytest")


def _template() -> Path:
    """The project to copy: in the package if installed from a wheel, among the examples of a checkout."""
    packaged = PROGRAM / "project"
    return packaged if packaged.is_dir() else PROGRAM.parent / "examples" / "project"
