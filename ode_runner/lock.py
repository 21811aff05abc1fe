"""One process at a time in a run folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ode_runner.errors import InUse


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Holds the folder; a process that ends, however it ends, lets go of it.

    Raises:
        InUse: another process holds it.
    """
    try:
        held = FileLock(folder / ".lock").acquire(timeout=0)
    except Timeout:
        raise InUse(f"{folder} is in use by another ode-run process. Wait for it, or change the seed.") from None
    with held:
        yield


def in_use(folder: Path) -> bool:
    """Whether another process works in the folder at this moment."""
    try:
        with lock(folder):
            return False
    except InUse:
        return True
