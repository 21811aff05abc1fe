"""Remarks of the cells of a sweep: those that differ only in their numbers are printed once."""

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
FIRST_WORDS = 50  # characters of a warning that are quoted to identify it
MADE = "ODE_RUN_TOLD"  # environment variable: a folder that the processes of a sweep on this machine share


@contextmanager
def each_once() -> Iterator[None]:
    """Inside, and in processes that are started inside, `is_first` tells a remark from its repetitions."""
    before = os.environ.get(MADE)
    with tempfile.TemporaryDirectory(prefix="ode-run-") as folder:
        os.environ[MADE] = folder
        try:
            yield
        finally:
            del os.environ[MADE]
            if before is not None:
                os.environ[MADE] = before


def is_first(remark: str, *, of: str) -> bool:
    """Whether no cell has made the same remark before, apart from numbers; True if there is no sweep."""
    folder = os.environ.get(MADE)
    if folder is None or not Path(folder).is_dir():
        return True
    kind = Path(folder) / hashlib.sha256(NUMBER.sub("#", remark).encode()).hexdigest()
    line = f"{time.time_ns()}\t{of}\t{' '.join(remark.split())}\n"
    with kind.open("a", encoding="utf-8") as cells:  # an append is atomic, also if other processes append
        cells.write(line)
    return kind.read_text(encoding="utf-8").startswith(line)


def summaries() -> list[str]:
    """A sentence for each remark that was printed for one cell and made by others as well."""
    folder = os.environ.get(MADE)
    kinds = [] if folder is None else [path.read_text(encoding="utf-8") for path in Path(folder).iterdir()]
    return [_summary(lines.splitlines()) for lines in sorted(kinds) if lines.count("\n") > 1]


def _summary(lines: Sequence[str]) -> str:
    _, cell, remark = lines[0].split("\t")
    begins = textwrap.shorten(remark, FIRST_WORDS, placeholder="...")
    more = f"{len(lines) - 1} more, with numbers of their own: see their ode-run.log"
    return f"the warning of {cell} ({begins}) holds for {more}"
