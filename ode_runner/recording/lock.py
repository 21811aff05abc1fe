"""One process at a time in a run folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ode_runner.errors import InUse

FILE = ".lock"
GLANCE = 0.1  # seconds: whoever only asks whether the folder is in use holds it for an instant


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Holds the folder; a process that ends, however it ends, lets go of it.

    Raises:
        InUse: another process holds it.
    """
    try:
        held = FileLock(folder / FILE).acquire(timeout=GLANCE, poll_interval=GLANCE / 4)
    except Timeout:
        raise InUse(f"{folder} is in use by another ode-run process. Wait for it, or change the seed.") from None
    with held:
        yield


def in_use(folder: Path) -> bool:
    """Whether another process works in the folder at this moment; for all we know, where we may not ask."""
    if not (folder / FILE).exists():
        return False
    try:
        with lock(folder):
            return False
    except (InUse, OSError):  # a file system that is read-only, or somebody else's folder
        return True
