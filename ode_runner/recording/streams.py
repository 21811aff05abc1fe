"""Standard output and standard error: writing to them never ends a run."""

import codecs
import io
import os
import sys
from typing import TextIO, cast

from ode_runner.recording.printable import printable

PLAIN = {"·": "-", "─": "-", "±": "+-", "×": "x", "…": "...", "—": "-"}


def replace_unprintable() -> None:
    """Print a substitute, instead of raising, for a character that the terminal's encoding lacks."""
    codecs.register_error("ode_runner.plain", _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="ode_runner.plain")


def ignore_output_errors() -> None:
    """From now on printing cannot fail: output that cannot be written is lost.

    A pipe without a reader, or a full disk behind `> file`, must not end a run: its record has all that the screen
    shows. `exit_code` reports lost output at the end. Control characters in standard error are escaped. A stream that
    was closed from the beginning (`>&-`) also takes everything.
    """
    sys.stdout, sys.stderr = (_open(stream) for stream in (sys.stdout, sys.stderr))
    sys.stdout = _outlasting(sys.stdout, io.TextIOWrapper)
    sys.stderr = _outlasting(sys.stderr, _Refusals)


def exit_code(program: str, code: int) -> int:
    """The exit code of a process that would end with `code`: if output was lost, 1 instead of 0, with a message.

    Output that a closed pipe did not take (`| head`) does not count as lost.
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
    """A file whose writes never fail."""

    failure: OSError | None = None  # the first error of a write

    def write(self, content: "bytes | bytearray | memoryview") -> int:  # type: ignore[override]
        try:
            return super().write(content)
        except OSError as error:
            self.failure = self.failure or error
            return memoryview(content).nbytes


class _Refusals(io.TextIOWrapper):
    """Standard error, with control characters escaped: messages quote what was typed, and somebody's files."""

    def write(self, text: str) -> int:
        super().write("\r".join(map(printable, text.split("\r"))))  # \r is kept: progress bars of downloads use it
        return len(text)


def _descriptor(stream: TextIO) -> io.RawIOBase | None:
    """The raw file under a stream; None if it is not known."""
    buffer = stream.buffer if isinstance(stream, io.TextIOWrapper) else None
    return buffer.raw if isinstance(buffer, io.BufferedWriter) else None


def _open(stream: TextIO | None) -> TextIO:
    """The stream; for a closed one (None), one to os.devnull, so that no file of the run gets its descriptor number."""
    if stream is not None:
        return stream
    return io.TextIOWrapper(io.BufferedWriter(cast(io.RawIOBase, _Outlasting(os.devnull, "w"))), encoding="utf-8")


def _outlasting(stream: TextIO, kind: type[io.TextIOWrapper]) -> TextIO:
    if type(stream) is not io.TextIOWrapper or isinstance(_descriptor(stream), _Outlasting):
        return stream  # somebody else's stream, or wrapped already
    try:
        stream.flush()
        raw = _Outlasting(os.dup(stream.fileno()), "w")
    except (OSError, ValueError):
        return stream
    return kind(
        io.BufferedWriter(cast(io.RawIOBase, raw)), encoding=stream.encoding, errors=stream.errors, line_buffering=True
    )
