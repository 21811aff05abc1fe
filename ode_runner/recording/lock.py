"""One process at a time in a run folder."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ode_runner.errors import InUse

if sys.platform != "win32":
    import fcntl

FILE = ".lock"
QUERY_SECONDS = 0.1  # to wait: `in_use`, called by another process, holds the lock for an instant


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which the system releases when the process ends, however it ends.

    Raises:
        InUse: another process holds it.
    """
    try:
        held = FileLock(folder / FILE).acquire(timeout=QUERY_SECONDS, poll_interval=QUERY_SECONDS / 4)
    except Timeout:
        raise InUse(folder) from None
    with held:
        yield


def may_lock(folder: Path) -> bool:
    """Whether this process may write the lock file; it may not on a read-only disk, or in somebody else's folder."""
    path = folder / FILE
    return os.access(path if path.exists() else folder, os.W_OK)


def in_use(folder: Path) -> bool:
    """Whether another process holds the folder's lock; also True if the lock file cannot be opened."""
    if not (folder / FILE).exists():
        return False
    try:
        with lock(folder):
            return False
    except InUse:
        return True
    except OSError:  # a file system that is read-only, or somebody else's folder
        return _held(folder / FILE)


def _held(path: Path) -> bool:
    """Whether another process holds the lock of a read-only file; True if the system does not tell."""
    with suppress(OSError), path.open("rb") as file:
        if sys.platform != "win32":
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    return True
