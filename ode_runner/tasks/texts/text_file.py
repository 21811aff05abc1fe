"""Texts from files, as sequences of units: characters or bytes."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

from ode_runner.errors import RefusedInput
from ode_runner.tasks.missing_file import why_missing

Unit = Literal["characters", "bytes"]
PYTHON_HELP = "python_help"  # the texts of Python's own help(), of the running version
UNKNOWN = "\N{REPLACEMENT CHARACTER}"  # stands for units that do not occur in training
SHOWN = 5  # unknown units that a message names
IN_PRINT = {"\n": "⏎", "\r": "↵", "\t": "⇥", " ": " "}


class Vocabulary(NamedTuple):
    """The units that a model knows; each is a token."""

    units: Sequence[str]

    @classmethod
    def of(cls, text: Sequence[str], *, unknown: bool) -> "Vocabulary":
        """The units of a text, sorted; if `unknown`, followed by a token for unknown units."""
        return cls([*sorted(set(text)), *([UNKNOWN] if unknown else [])])

    def words(self) -> list[str]:
        """The printed form of each unit, one character if possible."""
        return [IN_PRINT.get(unit, unit if unit.isprintable() else f"\\x{ord(unit):02x}") for unit in self.units]

    def tokens(self, text: Sequence[str]) -> list[int]:
        """The tokens of a text; units that the vocabulary lacks become the token for unknown units."""
        numbers = {unit: token for token, unit in enumerate(self.units)}
        return [numbers[unit] if unit in numbers else numbers[UNKNOWN] for unit in text]


def read_text(name: str, unit: Unit) -> str:
    """The text of a file, or of Python's help, with one character per unit; for bytes, its code is the byte.

    Raises:
        RefusedInput: there is no such file, or it is not a text.
    """
    content = python_help() if name == PYTHON_HELP else _read(Path(name))
    if unit == "bytes":
        return content.decode("latin-1")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RefusedInput(
            f"task.file={name} is no text in UTF-8: its byte {error.start:,} begins no character. Use task.unit=bytes."
        ) from None


def content_of_text(name: str) -> str | None:
    """A hash of the contents of a file, 12 hexadecimal digits; None if it cannot be read."""
    try:
        content = python_help() if name == PYTHON_HELP else _read(Path(name))
    except RefusedInput:
        return None
    return hashlib.sha256(content).hexdigest()[:12]


@lru_cache(maxsize=1)
def python_help() -> bytes:
    """All topics of `help()`, sorted by name.

    Raises:
        RefusedInput: this Python is distributed without them.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise RefusedInput(
            f"task.file={PYTHON_HELP}: this Python comes without the texts of its help (pydoc_data). Type the path of "
            "a text file: task.file=my.txt."
        ) from error
    known: Mapping[str, str] = topics
    return "\n".join(known[name] for name in sorted(known)).encode()


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise RefusedInput(f"task.file={path}: {why_missing(path)}. Type its path, or {PYTHON_HELP}.")
    try:
        return path.read_bytes()
    except OSError as error:
        raise RefusedInput(f"task.file={path} cannot be read: {error.strerror}.") from error
