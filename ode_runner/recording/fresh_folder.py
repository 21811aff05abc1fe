"""Recognizes run folders in which nothing has been done yet, and removes them if a command is refused."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

from ode_runner.errors import RefusedInput
from ode_runner.recording.attempts import FILE as ATTEMPT
from ode_runner.recording.lock import FILE as LOCK
from ode_runner.recording.record import FILE as RECORD
from ode_runner.recording.stored_command import FOLDER as COMMAND

STARTED = {COMMAND, LOCK, ATTEMPT, "ode-run.log"}  # files that are written before the run is known to be possible
_missing = set[Path]()  # folders that did not exist when this process was about to make them


def is_fresh(folder: Path) -> bool:
    """Whether the folder has only files that starting a command writes; the user may have named any folder."""
    return {path.name for path in folder.glob("*")} <= STARTED


def check_room(folder: Path) -> None:
    """Raises RefusedInput if a folder has files but no run: a run might overwrite files with the names of its own."""
    if not is_fresh(folder) and not any((folder / name).exists() for name in (COMMAND, RECORD)):
        raise RefusedInput(
            f"{folder} holds files and no run, and is left as it is. Name a folder that is empty or not there yet, or "
            "leave hydra.run.dir out."
        )


def remove_if_fresh(folder: Path) -> None:
    """Remove a folder in which nothing has been done; a folder with results or other files stays as it is."""
    if is_fresh(folder):
        remove(folder)


def note_missing(folder: Path) -> None:
    """Note which of the folder and its parents do not exist, before it is made: only these may be removed later."""
    own = Path(os.path.abspath(folder))
    _missing.update(place for place in (own, *own.parents) if not os.path.lexists(place))


def remove(folder: Path, *, alone: bool = False) -> None:
    """Remove the files that starting a command has written into a folder, and the folder if this process made it.

    Unless `alone`, also remove up to three parents that this process made and that are then empty. `alone` is for
    sweeps, where another process may be about to make a folder beside it.
    """
    own = Path(os.path.abspath(folder))
    for path in [own] if own in _missing else [own / name for name in STARTED]:
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    with suppress(OSError):  # a parent is not empty
        for parent in [] if alone or own not in _missing else own.parents[:3]:
            if parent in _missing:
                parent.rmdir()
