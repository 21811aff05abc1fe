"""Reads files of a folder that somebody else may have filled, but only regular files.

Opening a pipe would block, and reading a device may never end.
"""

import errno
from pathlib import Path


class NoRegularFile(OSError):
    """A path, or the target of a link, is not a regular file."""


def check_regular(path: Path) -> None:
    """Raises FileNotFoundError if there is nothing, NoRegularFile if there is a pipe, a device or a folder."""
    if path.is_file():
        return
    if not path.exists():
        raise FileNotFoundError(errno.ENOENT, "there is no such file", str(path))
    raise NoRegularFile(errno.EINVAL, "it is no file", str(path))


def read_regular(path: Path, *, most_bytes: int | None = None) -> bytes:
    """The content of a regular file.

    Raises:
        OSError: there is none (see `check_regular`), or it cannot be read.
        ValueError: it has more than `most_bytes`; the rest is not read.
    """
    check_regular(path)
    with path.open("rb") as file:
        content = file.read(-1 if most_bytes is None else most_bytes + 1)
    if most_bytes is not None and len(content) > most_bytes:
        raise ValueError(f"it has more than {most_bytes:,} bytes")
    return content
