"""Folders in which nothing has been done yet: recognised, and removed where nothing will be."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

from ode_runner.errors import RefusedInput
from ode_runner.recording.attempts import FILE as ATTEMPT
from ode_runner.recording.lock import FILE as LOCK
from ode_runner.recording.record import FILE as RECORD
from ode_runner.recording.stored_command import FOLDER as COMMAND

STARTED = {COMMAND, LOCK, ATTEMPT, "ode-run.log"}  # what starting a command writes, before it is known to be possible
_missing = set[Path]()  # folders that were not there when this process was about to make them


def is_fresh(folder: Path) -> bool:
    """Whether the folder holds only what starting a command writes; a folder of the user's may have been named."""
    return {path.name for path in folder.glob("*")} <= STARTED


def check_room(folder: Path) -> None:
    """Raises RefusedInput where a folder holds files and no run: a run would write over those of its own names."""
    if not is_fresh(folder) and not any((folder / name).exists() for name in (COMMAND, RECORD)):
        raise RefusedInput(
            f"{folder} holds files and no run, and is left as it is. Name a folder that is empty or not there yet, or "
            "leave hydra.run.dir out."
        )


def remove_if_fresh(folder: Path) -> None:
    """Remove a folder in which nothing has been done; one that holds results or somebody's files stays as it is."""
    if is_fresh(folder):
        remove(folder)


def note_missing(folder: Path) -> None:
    """Note which folders are not there, of this one and those around it, before it is made: only these are removed."""
    own = Path(os.path.abspath(folder))
    _missing.update(place for place in (own, *own.parents) if not os.path.lexists(place))


def remove(folder: Path, *, alone: bool = False) -> None:
    """Remove what starting a command has written into a folder; then the folder, if this process has made it.

    And unless `alone` up to three parents that it has made and that are empty then: of the task, of all outputs.
    `alone` is for sweeps, where another process may be about to make a folder beside it.
    """
    own = Path(os.path.abspath(folder))
    for path in [own] if own in _missing else [own / name for name in STARTED]:
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    with suppress(OSError):  # a parent that holds something else
        for parent in [] if alone or own not in _missing else own.parents[:3]:
            if parent in _missing:
                parent.rmdir()
