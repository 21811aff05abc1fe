"""Points from the numeric columns of a file, one per row."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from ode_runner.config.help import did_you_mean
from ode_runner.errors import RefusedInput
from ode_runner.tasks.missing_file import why_missing
from ode_runner.tasks.series.series_cells import is_blank, measurements
from ode_runner.tasks.series.table_file import check_names, list_option, read_table, with_names

NO_NUMBER = "Name the columns of numbers: task.columns=[...]."


@dataclass(frozen=True, kw_only=True, eq=False)
class Points:
    """The points that were read."""

    source: str  # the file, in words
    columns: list[str]
    rows: np.ndarray  # (points,): numbers of the rows in the file, as a spreadsheet counts them
    values: np.ndarray  # (points, columns), float64

    def content(self) -> str:
        """A hash of names and numbers, 12 hexadecimal digits."""
        digest = hashlib.sha256(repr((self.columns, self.values.shape)).encode())
        digest.update((self.values + 0.0).tobytes())  # -0.0 is 0.0
        return digest.hexdigest()[:12]


def read_points(path: Path, columns: Sequence[str] | None, *, option: str = "task.file") -> Points:
    """The points of a file, without blank rows.

    Args:
        path: of the file.
        columns: names of the columns to read; None: all.
        option: the option that named the file, for messages.

    Raises:
        RefusedInput: the file cannot be read, a column is missing or named twice, or a cell is blank or not a number.
    """
    if not path.is_file():
        raise RefusedInput(f"{option}={path}: {why_missing(path)}. Type the path of a csv, parquet or npz file.")
    table, first = read_table(path)
    names = _named(columns, [str(name) for name in table.columns], path, option)
    filled = ~table.map(is_blank).to_numpy().all(axis=1)
    rows = first + np.flatnonzero(filled)
    if not len(rows):
        raise RefusedInput(f"{path} has no rows below its heads.")
    columns_read = [measurements(table[name], first, path, advice=NO_NUMBER) for name in names]
    values = np.stack(columns_read, axis=1)[filled]
    blank = np.isnan(values)
    if blank.any():
        row, column = np.argwhere(blank)[0]
        raise RefusedInput(
            f"{path}, row {rows[row]}, column '{names[column]}': blank, and a density is of all columns. Leave the "
            "row out, or the column: task.columns=[...]."
        )
    return Points(source=str(path), columns=names, rows=rows, values=values)


def content_of(name: str, columns: Sequence[str] | None) -> str | None:
    """`Points.content` of a file, None if it cannot be read. It is cached until the file changes."""
    try:
        stat = Path(name).stat()
        wanted = None if columns is None else tuple(columns)
        return _content(Path(name), wanted, stat.st_size, stat.st_mtime_ns)
    except (OSError, RefusedInput):
        return None


@lru_cache(maxsize=64)
def _content(path: Path, columns: tuple[str, ...] | None, size: int, changed: int) -> str:
    del size, changed  # only keys of the cache
    return read_points(path, columns).content()


def _named(columns: Sequence[str] | None, there: Sequence[str], path: Path, option: str) -> list[str]:
    """The names of the columns to read.

    Raises:
        RefusedInput: a column does not exist, is named twice, or has no name where all are read.
    """
    if columns is None:
        named = with_names(there)
        instead = list_option("task.columns", named) if named else ""
        check_names(there, path, role="a column of the density", instead=instead)
    names = list(there if columns is None else columns)
    for name in names:
        if name not in there:
            close = did_you_mean(name, list(there))
            raise RefusedInput(f"{option}={path} has no column '{name}'.{close} It has: {', '.join(there)}.")
        if names.count(name) > 1:
            raise RefusedInput(f"task.columns: the column '{name}' of {path} is named twice. Name it once.")
    if not names:
        raise RefusedInput("task.columns=[] names no column. Leave it out for all of them.")
    return names
