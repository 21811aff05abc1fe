"""Counts the attempts at a run that were aborted, for example by the out-of-memory killer or a segfault."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ode_runner.recording.atomic_write import atomic_write
from ode_runner.recording.lock import in_use
from ode_runner.recording.regular_file import read_regular

FILE = ".attempt"  # in the run folder, while a process works on the run
MOST_BYTES = 10_000  # of the file, which has only two numbers
TOO_OFTEN = 2


@contextmanager
def attempt(folder: Path, *, anew: bool) -> Iterator[None]:
    """Context around a run: a file in its folder is left behind only if the process ends inside.

    This process must have locked the folder. `anew` resets the count to zero.
    """
    before = 0 if anew else _aborted_attempts(folder)
    with suppress(OSError):  # the run itself reports a full disk
        content = json.dumps({"endings": before, "saved": _saved(folder)}).encode()
        atomic_write(folder / FILE, lambda file: file.write(content))
    try:
        yield
    finally:
        with suppress(OSError):
            (folder / FILE).unlink(missing_ok=True)


def aborted_attempts(folder: Path) -> int:
    """How many attempts in a row were aborted, with no progress saved in between; 0 while a process works there."""
    return 0 if not (folder / FILE).is_file() or in_use(folder) else _aborted_attempts(folder)


def _aborted_attempts(folder: Path) -> int:
    try:
        left = json.loads(read_regular(folder / FILE, most_bytes=MOST_BYTES).decode("utf-8"))
        return int(left["endings"]) + 1 if left["saved"] == _saved(folder) else 1
    except FileNotFoundError:
        return 0
    except (OSError, ValueError, TypeError, KeyError, RecursionError):  # damaged, but it exists: one attempt
        return 1


def _saved(folder: Path) -> int:
    """The time of the last checkpoint in nanoseconds; 0 if there is none."""
    try:
        return (folder / "checkpoints" / "last.pt").stat().st_mtime_ns
    except OSError:
        return 0
