"""The exceptions of the program, and values in their messages: each is one sentence for the person at the keyboard."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

MOST_SIGNS = 100  # of a value in a message


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


def as_typed(value: Any) -> str:
    """What to type for a value that a configuration holds: `true`, `null`, `[0,true]`, `{a:1}`; cut short if long.

    A text that would be read as something else stands in quotes, as it was typed.
    """
    text = _written(value)
    return text if len(text) <= MOST_SIGNS else f"{text[:MOST_SIGNS]}..."


def as_chosen(group: str, thing: object) -> str:
    """A member of a group as it is typed, which is the name of its module; a class of one's own by its name."""
    package, _, module = type(thing).__module__.rpartition(".")
    ours = package.partition(".")[0] == __name__.partition(".")[0]
    return f"{group}={module}" if ours else type(thing).__name__


def _written(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, str):
        return value if _is_plain(value) else repr(value)
    if isinstance(value, Mapping):  # OmegaConf's among them, as in the next
        return "{" + ",".join(f"{key}:{_written(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, Sequence):
        return f"[{','.join(map(_written, value))}]"
    return repr(value) if isinstance(value, int | float) else type(value).__name__


def _is_plain(text: str) -> bool:
    """Whether a text stands for itself, without quotes: it is one word, and neither a number nor a word of yaml."""
    if len(text.split()) > 1 or text.lower() in ("true", "false", "null"):
        return False
    try:
        float(text)
    except ValueError:
        return True
    return False
