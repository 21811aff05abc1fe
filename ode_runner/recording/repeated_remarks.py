"""Remarks of the cells of a sweep, of which those that differ in their numbers alone are printed once."""

import hashlib
import os
import re
import tempfile
import textwrap
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

NUMBER = re.compile(r"\d[\d.,:]*(e[-+]?\d+)?")
FIRST_WORDS = 50  # characters, by which a warning is known again
TOLD = "ODE_RUN_TOLD"  # a folder, where a sweep is under way: its cells may be run by other processes on this machine


@contextmanager
def each_once() -> Iterator[None]:
    """Within, and in processes that begin within, `is_first` tells a remark from its repetitions."""
    before = os.environ.get(TOLD)
    with tempfile.TemporaryDirectory(prefix="ode-run-") as folder:
        os.environ[TOLD] = folder
        try:
            yield
        finally:
            del os.environ[TOLD]
            if before is not None:
                os.environ[TOLD] = before


def is_first(remark: str, *, of: str) -> bool:
    """Whether no cell has been told the same, but for its numbers; True where there is no sweep on this machine."""
    folder = os.environ.get(TOLD)
    if folder is None or not Path(folder).is_dir():
        return True
    kind = Path(folder) / hashlib.sha256(NUMBER.sub("#", remark).encode()).hexdigest()
    line = f"{time.time_ns()}\t{of}\t{' '.join(remark.split())}\n"
    with kind.open("a", encoding="utf-8") as cells:  # appended whole, whoever else appends
        cells.write(line)
    return kind.read_text(encoding="utf-8").startswith(line)


def summaries() -> list[str]:
    """A sentence for each remark that was printed of the first of several cells."""
    folder = os.environ.get(TOLD)
    kinds = [] if folder is None else [path.read_text(encoding="utf-8") for path in Path(folder).iterdir()]
    return [_summary(lines.splitlines()) for lines in sorted(kinds) if lines.count("\n") > 1]


def _summary(lines: Sequence[str]) -> str:
    _, cell, remark = lines[0].split("\t")
    begins = textwrap.shorten(remark, FIRST_WORDS, placeholder="...")
    more = f"{len(lines) - 1} more, with numbers of their own: see their ode-run.log"
    return f"the warning of {cell} ({begins}) holds for {more}"
