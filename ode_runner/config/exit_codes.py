"""How a job ended, and the exit code of the command."""

from enum import IntEnum
from typing import NamedTuple


class ExitCode(IntEnum):
    """The exit codes of `ode-run`."""

    COMPLETED = 0
    FAILED = 1
    REFUSED = 2
    INTERRUPTED = 130


class JobResult(NamedTuple):
    """How one job ended; launchers pass it from other processes to the sweep."""

    code: ExitCode
    status: str  # a RunStatus, REFUSED or IN_USE
    reason: str = ""


REFUSED = "refused"
IN_USE = "in use"

_codes: list[ExitCode] = []  # of this process's jobs; kept here because Hydra discards what jobs and sweepers return


def clear_exit_codes() -> None:
    """Forget the codes of an earlier command in this process."""
    _codes.clear()


def add_exit_code(code: ExitCode) -> None:
    """Record the code of one job."""
    _codes.append(code)


def set_exit_code(code: ExitCode) -> None:
    """Record the code of a sweep, which replaces those of its jobs in this process."""
    _codes[:] = [code]


def command_exit_code() -> ExitCode:
    """The code of the command: that of its only job or its sweep; for several jobs, FAILED if any did not complete."""
    worst = max(_codes, default=ExitCode.COMPLETED)
    return worst if len(_codes) < 2 else min(worst, ExitCode.FAILED)
