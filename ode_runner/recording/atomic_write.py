"""Writes files so that a reader finds the whole old or the whole new content, also after a kill."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def atomic_write(path: Path, write: Callable[[BinaryIO], object], *, keep: Path | None = None) -> None:
    """Replace the content of `path` by what `write` writes; if that fails, `path` stays as it is.

    The content is written into a temporary file, which is moved to `path` once it is on the disk. An earlier file at
    `path` is moved to `keep`, if that is given.

    Raises:
        OSError: writing failed; the error has the name of `path`.
    """
    unfinished = path.with_name(f"{path.name}.unfinished")
    try:
        unfinished.unlink(missing_ok=True)  # left by a killed process; opening a pipe would block, a link be followed
        with unfinished.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:
        unfinished.unlink(missing_ok=True)  # makes room for the record
        cause = error if isinstance(error, OSError) else error.__context__  # torch raises RuntimeError for a full disk
        if isinstance(cause, OSError):
            raise OSError(cause.errno, cause.strerror, str(path)) from error
        raise
    if keep is not None and path.exists():
        os.replace(path, keep)
    os.replace(unfinished, path)
