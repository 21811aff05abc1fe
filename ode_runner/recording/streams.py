"""Standard output and standard error: writing to them never ends a run."""

import codecs
import io
import os
import sys
from typing import TextIO, cast

from ode_runner.recording.printable import printable

PLAIN = {"·": "-", "─": "-", "±": "+-", "×": "x", "…": "...", "—": "-"}


def replace_unprintable() -> None:
    """In place of an error where the terminal's encoding, ascii say, has no sign for a character."""
    codecs.register_error("ode_runner.plain", _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="ode_runner.plain")


def ignore_output_errors() -> None:
    """From now on printing cannot fail: what cannot be written is lost.

    A pipe whose reader has gone, or a full disk behind `> file`, must not cost a run, whose record says all that the
    screen does; `exit_code` tells of it at the end. What goes to standard error is spelt out where a terminal would
    obey it. A stream that was closed from the beginning (`>&-`) takes everything, too.
    """
    sys.stdout, sys.stderr = (_open(stream) for stream in (sys.stdout, sys.stderr))
    sys.stdout = _outlasting(sys.stdout, io.TextIOWrapper)
    sys.stderr = _outlasting(sys.stderr, _Refusals)


def exit_code(program: str, code: int) -> int:
    """What the shell is told by a process that is about to end with `code`: 1, and why, where output is lost.

    A reader who has seen enough (`| head`) is no loss.
    """
    error = lost_output()
    if error is None or isinstance(error, BrokenPipeError):
        return code
    print(f"{program}: {error.strerror}: what was to be shown could not be written.", file=sys.stderr)
    return code or 1


def lost_output() -> OSError | None:
    """The first failure to write to standard output since `ignore_output_errors`."""
    sys.stdout.flush()
    descriptor = _descriptor(sys.stdout)
    return descriptor.failure if isinstance(descriptor, _Outlasting) else None


def _plain(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return "".join(PLAIN.get(sign, "?") for sign in error.object[error.start : error.end]), error.end


class _Outlasting(io.FileIO):
    """A file descriptor that takes everything."""

    failure: OSError | None = None  # the first, of what it could not hand on

    def write(self, content: "bytes | bytearray | memoryview") -> int:  # type: ignore[override]
        try:
            return super().write(content)
        except OSError as error:
            self.failure = self.failure or error
            return memoryview(content).nbytes


class _Refusals(io.TextIOWrapper):
    """Says what was typed, and what somebody's files say."""

    def write(self, text: str) -> int:
        super().write("\r".join(map(printable, text.split("\r"))))  # with which the bar of a download goes on
        return len(text)


def _descriptor(stream: TextIO) -> io.RawIOBase | None:
    """What a stream writes to in the end, where that is known."""
    buffer = stream.buffer if isinstance(stream, io.TextIOWrapper) else None
    return buffer.raw if isinstance(buffer, io.BufferedWriter) else None


def _open(stream: TextIO | None) -> TextIO:
    """The stream; for one that is closed, where Python has None, nowhere, lest a file of the run get its number."""
    if stream is not None:
        return stream
    return io.TextIOWrapper(io.BufferedWriter(cast(io.RawIOBase, _Outlasting(os.devnull, "w"))), encoding="utf-8")


def _outlasting(stream: TextIO, kind: type[io.TextIOWrapper]) -> TextIO:
    if type(stream) is not io.TextIOWrapper or isinstance(_descriptor(stream), _Outlasting):
        return stream  # none, or somebody's own, or done before
    try:
        stream.flush()
        raw = _Outlasting(os.dup(stream.fileno()), "w")
    except (OSError, ValueError):
        return stream
    return kind(
        io.BufferedWriter(cast(io.RawIOBase, raw)), encoding=stream.encoding, errors=stream.errors, line_buffering=True
    )
