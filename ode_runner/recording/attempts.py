"""How often a run's process ended in the midst of it, as the out-of-memory killer or a segmentation fault ends one."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ode_runner.recording.atomic_write import atomic_write
from ode_runner.recording.lock import in_use
from ode_runner.recording.regular_file import read_regular

FILE = ".attempt"  # in the run folder, while a process works on the run
MOST_BYTES = 10_000  # of two numbers
TOO_OFTEN = 2


@contextmanager
def attempt(folder: Path, *, anew: bool) -> Iterator[None]:
    """Around a run, whose folder this process has locked; a file stays behind only if the process ends inside.

    `anew` forgets how often that has happened.
    """
    before = 0 if anew else _endings(folder)
    with suppress(OSError):  # a full disk is met, and told of, by the run itself
        content = json.dumps({"endings": before, "saved": _saved(folder)}).encode()
        atomic_write(folder / FILE, lambda file: file.write(content))
    try:
        yield
    finally:
        with suppress(OSError):
            (folder / FILE).unlink(missing_ok=True)


def endings(folder: Path) -> int:
    """How often a process ended in the midst of the folder's run, one after another, with nothing saved in between.

    A run that is killed now and then, but saves its progress, comes to its end, and does not count as often.
    """
    return 0 if not (folder / FILE).is_file() or in_use(folder) else _endings(folder)


def _endings(folder: Path) -> int:
    try:
        left = json.loads(read_regular(folder / FILE, most_bytes=MOST_BYTES).decode("utf-8"))
        return int(left["endings"]) + 1 if left["saved"] == _saved(folder) else 1
    except FileNotFoundError:
        return 0
    except (OSError, ValueError, TypeError, KeyError, RecursionError):  # torn: it was there, which is what counts
        return 1


def _saved(folder: Path) -> int:
    """When the run last saved its progress, in nanoseconds; 0: it has saved none."""
    try:
        return (folder / "checkpoints" / "last.pt").stat().st_mtime_ns
    except OSError:
        return 0
