"""The exceptions of the program. Each message is one sentence for the person at the keyboard."""

from pathlib import Path
from typing import Any


class RefusedInput(ValueError):
    """What was asked for cannot be done as typed: exit code 2, without a traceback."""


class IncompatibleChoice(RefusedInput):
    """Two choices that exist, but not together. A sweep records such a cell and goes on."""


class CannotCompile(RuntimeError):
    """A field or a method that compiled code cannot stand for; the message is the reason, in a clause."""


class NumericalFailure(RuntimeError):
    """A solve failed, or a loss or gradient is not finite."""

    crash_dump: Any = None  # a CrashDump, from which `replay=` repeats the failure


class SolverFailed(NumericalFailure):
    """The numerical method could not reach the end of the time span."""


class Diverged(NumericalFailure):
    """Loss or gradient is not finite."""


class Interrupted(RuntimeError):
    """SIGINT or SIGTERM asked the run to stop; it has saved what it has."""


class Pruned(RuntimeError):
    """The search whose trial this run is has ended it before its time; it has saved what it has."""


class CheckpointRefused(RuntimeError):
    """A checkpoint file that is torn or belongs to another run."""


class InUse(RefusedInput):
    """Another process works in the run folder; `fact` says so, without what to do."""

    def __init__(self, folder: Path) -> None:
        self.fact = f"{folder} is in use by another ode-run process."
        super().__init__(f"{self.fact} Wait for it, or change the seed.")


def in_short(error: BaseException) -> str:
    """What went wrong, on one line, where it is told of and passed over: of a picture that cannot be drawn, say."""
    reason = " ".join(str(error).split())
    if isinstance(error, NumericalFailure):
        return reason
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}{f': {error.filename}' if error.filename else ''}"
    return f"{type(error).__name__}: {reason}" if reason else type(error).__name__
