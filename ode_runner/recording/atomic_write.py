"""Files that are whole whenever they are looked at, whoever is killed while writing."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def atomic_write(path: Path, write: Callable[[BinaryIO], object], *, keep: Path | None = None) -> None:
    """`path` becomes what `write` puts into a file; should that fail, it stays what it was.

    Written beside it, and moved onto it once it is on the disk. What `path` held before is moved to `keep`.

    Raises:
        OSError: the system's, with the name of `path`.
    """
    unfinished = path.with_name(f"{path.name}.unfinished")
    try:
        unfinished.unlink(missing_ok=True)  # of a killed process; a pipe would be waited for, a link written through
        with unfinished.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:
        unfinished.unlink(missing_ok=True)  # room for the record
        cause = error if isinstance(error, OSError) else error.__context__  # what torch hides a full disk behind
        if isinstance(cause, OSError):
            raise OSError(cause.errno, cause.strerror, str(path)) from error
        raise
    if keep is not None and path.exists():
        os.replace(path, keep)
    os.replace(unfinished, path)
