"""The exceptions of the program, whose messages are one readable line, and how values appear in messages."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

MOST_SIGNS = 100  # characters of a value in a message
_fixed: ContextVar[frozenset[str]] = ContextVar("fixed", default=frozenset())  # groups that cannot be typed


class RefusedInput(ValueError):
    """The request cannot be carried out as typed: exit code 2, without a traceback."""


class IncompatibleChoice(RefusedInput):
    """Two valid choices do not work together. A sweep records such a cell and goes on."""


class CannotCompile(RuntimeError):
    """A field or method cannot be compiled; the message is the reason, as a clause."""


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
    """A search has ended this run, one of its trials, early; the run has saved what it has."""


class CheckpointRefused(RuntimeError):
    """A checkpoint file is damaged or belongs to another run."""


class BrokenFile(RefusedInput):
    """A yaml file that cannot be read. A sweep passes over the cells that choose it, and goes on."""


class InUse(RefusedInput):
    """Another process uses the run folder. `fact` is the message without the advice."""

    def __init__(self, folder: Path) -> None:
        self.fact = f"{folder} is in use by another ode-run process."
        super().__init__(f"{self.fact} Wait for it, or change the seed.")


def in_short(error: BaseException) -> str:
    """An error on one line, for a message about an error that ends nothing, such as a picture that cannot be drawn."""
    reason = " ".join(str(error).split())
    if isinstance(error, NumericalFailure):
        return reason
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}{f': {error.filename}' if error.filename else ''}"
    return f"{type(error).__name__}: {reason}" if reason else type(error).__name__


def as_typed(value: Any) -> str:
    """A configuration value as it is typed: `true`, `null`, `[0,true]`, `{a:1}`; cut after MOST_SIGNS characters.

    A string that would be parsed as something else is quoted.
    """
    text = _written(value)
    return text if len(text) <= MOST_SIGNS else f"{text[:MOST_SIGNS]}..."


def check_whole(value: object, shown: str, *, least: int, most: int) -> None:
    """Raises RefusedInput unless a value, which is `shown` so in the message, is a whole number in this range."""
    if type(value) is not int or not least <= value <= most:
        raise RefusedInput(f"{shown} is no whole number from {least} to {most:,}.")


@contextmanager
def taken_as_they_are(groups: Collection[str]) -> Iterator[None]:
    """Inside, messages suggest no choice or option of these groups: those of the run that a command is about."""
    token = _fixed.set(frozenset(groups))
    try:
        yield
    finally:
        _fixed.reset(token)


def can_be_typed(word: str) -> bool:
    """Whether a choice or option, such as `model.damping=false`, may be suggested."""
    return word.partition("=")[0].partition(".")[0] not in _fixed.get()


def either(*alternatives: str) -> str:
    """`model=odenet, or solver=rk4`: the alternatives that may be suggested; all, if none may be."""
    return ", or ".join(list(filter(can_be_typed, alternatives)) or alternatives)


def as_chosen(group: str, thing: object) -> str:
    """A member of a group as it is typed, `group=` and the name of its module; a user's own class by its name."""
    package, _, module = type(thing).__module__.rpartition(".")
    ours = package.partition(".")[0] == __name__.partition(".")[0]
    return f"{group}={module}" if ours else type(thing).__name__


def is_number(text: str) -> bool:
    """Whether Python reads a text as a floating-point number: 3, 1e-3, nan."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _written(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, str):
        return value if _is_plain(value) else repr(value)
    if isinstance(value, Mapping):  # includes DictConfig, as the next includes ListConfig
        return "{" + ",".join(f"{key}:{_written(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, Sequence):
        return f"[{','.join(map(_written, value))}]"
    return repr(value) if isinstance(value, int | float) else type(value).__name__


def _is_plain(text: str) -> bool:
    """Whether a string needs no quotes: it is one word, neither a number nor a keyword of yaml."""
    return not (len(text.split()) > 1 or text.lower() in ("true", "false", "null") or is_number(text))
