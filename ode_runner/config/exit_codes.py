"""How a job ended, and what the shell is told of it."""

from enum import IntEnum
from typing import NamedTuple


class ExitCode(IntEnum):
    """What the shell is told."""

    COMPLETED = 0
    FAILED = 1
    REFUSED = 2
    INTERRUPTED = 130


class Ending(NamedTuple):
    """What came of one job; of a sweep's it may have to travel from another process."""

    code: ExitCode
    status: str  # a RunStatus, REFUSED or IN_USE
    reason: str = ""


REFUSED = "refused"
IN_USE = "in use"

codes: list[ExitCode] = []  # of this process, in order; Hydra discards what its jobs return
