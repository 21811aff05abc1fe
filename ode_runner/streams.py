"""Standard output and standard error, which are no reason to fail."""

import codecs
import io
import os
import sys
from typing import TextIO, cast

from ode_runner.printable import printable

PLAIN = {"·": "-", "─": "-", "±": "+-", "×": "x", "…": "...", "—": "-"}


def replace_what_cannot_be_printed() -> None:
    """In place of an error where the terminal's encoding, ascii say, has no sign for a character."""
    codecs.register_error("ode_runner.plain", _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="ode_runner.plain")


def outlast_the_screen() -> None:
    """From now on printing cannot fail: what cannot be written is lost.

    A pipe whose reader has gone, or a full disk behind `> file`, must not cost a run, whose record says all that the
    screen does. What goes to standard error is spelt out where a terminal would obey it.
    """
    sys.stdout = _outlasting(sys.stdout, io.TextIOWrapper)
    sys.stderr = _outlasting(sys.stderr, _Refusals)


def _plain(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return "".join(PLAIN.get(sign, "?") for sign in error.object[error.start : error.end]), error.end


class _Outlasting(io.FileIO):
    """A file descriptor that takes everything."""

    def write(self, content: "bytes | bytearray | memoryview") -> int:  # type: ignore[override]
        try:
            return super().write(content)
        except OSError:
            return memoryview(content).nbytes


class _Refusals(io.TextIOWrapper):
    """Says what was typed, and what somebody's files say."""

    def write(self, text: str) -> int:
        super().write("\r".join(map(printable, text.split("\r"))))  # with which the bar of a download goes on
        return len(text)


def _outlasting(stream: TextIO, kind: type[io.TextIOWrapper]) -> TextIO:
    if type(stream) is not io.TextIOWrapper or isinstance(getattr(stream.buffer, "raw", None), _Outlasting):
        return stream  # none, or somebody's own, or done before
    try:
        stream.flush()
        raw = _Outlasting(os.dup(stream.fileno()), "w")
    except (OSError, ValueError):
        return stream
    return kind(
        io.BufferedWriter(cast(io.RawIOBase, raw)), encoding=stream.encoding, errors=stream.errors, line_buffering=True
    )
