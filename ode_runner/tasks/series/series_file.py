"""Series of measurements, read from the columns of a file."""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import pandas as pd

from ode_runner.config.help import conf_dir
from ode_runner.errors import RefusedInput, as_typed
from ode_runner.tasks.missing_file import why_missing
from ode_runner.tasks.series.dates import date_texts
from ode_runner.tasks.series.series_cells import BLANK_CELL, about_values, is_blank, measurements, times_of
from ode_runner.tasks.series.series_roles import Roles, resolved
from ode_runner.tasks.series.table_file import read_table


@dataclass(frozen=True, kw_only=True, eq=False)
class Recorded:
    """One series as it was recorded in a file."""

    name: str
    rows: np.ndarray  # (points,): the number of each row in the file
    times: np.ndarray  # (points,), increasing, in the file's unit
    values: np.ndarray  # (points, columns), NaN where a cell is blank
    inputs: np.ndarray  # (points, inputs), NaN if blank
    label: str | None  # None: the file gives no label

    @property
    def first(self) -> int:
        """The number of its first row in the file."""
        return int(self.rows[0])

    def with_values(self) -> "Recorded":
        """The series without rows in which all values are blank."""
        return self.at(~np.isnan(self.values).all(axis=1))

    def at(self, points: np.ndarray) -> "Recorded":
        """The series at some of its points, given by indices or by a mask."""
        arrays = {name: getattr(self, name)[points] for name in ("rows", "times", "values", "inputs")}
        return replace(self, **arrays)


@dataclass(frozen=True, kw_only=True, eq=False)
class SeriesFile:
    """The contents of a file: the names of its columns by role, and the series in order of appearance."""

    path: Path
    time: str
    values: list[str]
    inputs: list[str]
    series: list[Recorded]
    dates: bool  # whether times are dates: days since 1970-01-01

    def recorded(self) -> list[Recorded]:
        """The series without rows in which all values are blank.

        Raises:
            RefusedInput: a series has no other rows.
        """
        for one in self.series:
            if np.isnan(one.values).all():
                of = f" of series {one.name}" if one.name else ""
                raise RefusedInput(
                    f"{self.path}, rows {one.rows[0]} to {one.rows[-1]}{of}: blank in every column of values "
                    f"({', '.join(self.values)}). Leave {'these rows' if of else 'such a file'} out."
                )
        return [one.with_values() for one in self.series]

    def time_text(self, time: float) -> str:
        """A time in the notation of the file."""
        return date_texts([time])[0] if self.dates else f"{time:.10g}"

    def content(self) -> str:
        """A hash of names and numbers, 12 hexadecimal digits."""
        dates = ("dates",) if self.dates else ()
        digest = hashlib.sha256(repr((self.time, self.values, self.inputs, *dates)).encode())
        for one in self.series:
            digest.update(repr((one.name, one.label, one.times.shape)).encode())
            for array in (one.times, one.values, one.inputs):
                digest.update((array + 0.0).tobytes())  # -0.0 is 0.0
        return digest.hexdigest()[:12]


def find_file(name: str) -> Path:
    """The file of this name, or the one that is shipped with the program.

    Raises:
        RefusedInput: there is neither.
    """
    path = Path(name)
    shipped = {file.stem: file for file in sorted((conf_dir() / "shipped").glob("*.csv"))}
    if path.is_file() or name in shipped:
        return path if path.is_file() else shipped[name]
    raise RefusedInput(
        f"task.file={name}: {why_missing(name)}. Type its path, or one that comes with us: {', '.join(shipped)}."
    )


def read_series(path: Path, roles: Roles) -> SeriesFile:
    """The series in a file; rows are grouped by series, in order of first appearance.

    Raises:
        RefusedInput: the file cannot be read, a column is missing, a cell is not a number where one is needed, or the
            times of a series do not increase. The message names file, row and column; rows are counted as in a
            spreadsheet.
    """
    table, first = read_table(path)
    chosen_time, roles = roles.time is None, resolved(table, roles, path)
    assert roles.time is not None
    assert roles.values is not None
    whole, dates = _numbers(table, first, roles, path)
    keys = [""] * len(table) if roles.series is None else _names(table[roles.series])
    labels = None if roles.label is None else _names(table[roles.label])
    series, groups = [], _rows_by_series(table, keys)
    other = partial(_other_times, whole, roles, [*groups.values()]) if chosen_time else str
    for key, own in groups.items():
        chosen = np.array(own)
        if roles.series is not None and not key:
            raise RefusedInput(
                f"{path}, row {whole.rows[own[0]]}, column '{roles.series}': blank, so that the row is of no series. "
                "Write the name of one, or leave the row out."
            )
        chosen = chosen[np.argsort(whole.times[chosen], kind="stable")] if roles.sort else chosen
        one = whole.at(chosen)
        _check_times(one.times, one.rows, key, roles.time, path, dates=dates, other=other)
        label = None if labels is None else _one_label([labels[i] for i in chosen], one.rows, key, path)
        series.append(replace(one, name=key, label=label))
    if not series:
        raise RefusedInput(f"{path} has no rows below its heads.")
    return SeriesFile(
        path=path,
        time=roles.time,
        values=list(roles.values),
        inputs=list(roles.inputs),
        series=series,
        dates=dates,
    )


def _numbers(table: pd.DataFrame, first: int, roles: Roles, path: Path) -> tuple[Recorded, bool]:
    """All rows of a table as if they were a single series, and whether their times are dates."""
    assert roles.values is not None
    advice = about_values if roles.series is None else lambda column: BLANK_CELL
    values, inputs = (
        [measurements(table[name], first, path, advice=advice(table[name])) for name in names]
        for names in (roles.values, roles.inputs)
    )
    times, dates = times_of(table[roles.time], first, path)
    whole = Recorded(
        name="",
        rows=np.arange(len(table)) + first,
        times=times,
        values=np.stack(values, axis=1),
        inputs=np.array(inputs).reshape(len(inputs), len(table)).T,
        label=None,
    )
    return whole, dates


def _names(column: pd.Series) -> list[str]:
    """The cells of a column of names; "" if blank, but "NA" is a name."""
    return ["" if cell is None or cell != cell else str(cell).strip() for cell in column]


def _rows_by_series(table: pd.DataFrame, keys: Sequence[str]) -> dict[str, list[int]]:
    """The row indices of each series, by its name, without blank rows; `keys` are the names row by row."""
    rows: dict[str, list[int]] = {}
    columns = [table.iloc[:, place] for place in range(table.shape[1])]  # rows of pandas take 100 times as long
    for row, (key, *cells) in enumerate(zip(keys, *columns, strict=True)):
        if not all(map(is_blank, cells)):
            rows.setdefault(key, []).append(row)
    return rows


def check_logarithms(read: SeriesFile, names: Sequence[str]) -> None:
    """Raises RefusedInput unless these are columns of values, and all their values are positive."""
    for name in names:
        if name not in read.values:
            raise RefusedInput(f"task.log: '{name}' is no column of values. They are: {', '.join(read.values)}.")
        place = read.values.index(name)
        for one in read.series:
            low = one.values[:, place] <= 0
            if low.any():
                raise RefusedInput(
                    f"{read.path}, row {one.rows[low.argmax()]}, column '{name}': "
                    f"{one.values[low.argmax(), place]:g} has no logarithm. Leave it out of task.log."
                )


def content_of(name: str, roles: Roles) -> str | None:
    """`SeriesFile.content` of a file, None if it cannot be read. It is cached until the file changes."""
    try:
        path = find_file(name)
        stat = path.stat()
        return _content(path, roles, stat.st_size, stat.st_mtime_ns)
    except (OSError, RefusedInput):
        return None


@lru_cache(maxsize=64)
def _content(path: Path, roles: Roles, size: int, changed: int) -> str:
    del size, changed  # only keys of the cache
    return read_series(path, roles).content()


def _check_times(
    times: np.ndarray, rows: np.ndarray, key: str, column: str, path: Path, *, dates: bool, other: Callable[[], str]
) -> None:
    """Raises RefusedInput if a time is missing, or if the times do not increase; `other` advises another column."""
    of = f" of series {key}" if key else ""

    def text(time: float) -> str:
        return date_texts([time])[0] if dates else f"{time:.10g}"

    for place, time in enumerate(times):
        if math.isnan(time):
            raise RefusedInput(f"{path}, row {rows[place]}, column '{column}': the time is missing.")
        if place and time == times[place - 1]:
            both = f"rows {rows[place - 1]} and {rows[place]}{of} are both at {text(time)}"
            advice = "keep one of them" if key else "keep one of them, or name task.series"
            raise RefusedInput(f"{path}, column '{column}': {both}. {_sentence(other(), advice)}")
        if place and time < times[place - 1]:
            raise RefusedInput(
                f"{path}, row {rows[place]}, column '{column}': the times{of} run backwards, from "
                f"{text(times[place - 1])} to {text(time)}. "
                + _sentence(other(), "sort the rows, or say task.sort=true")
            )


def _other_times(whole: Recorded, roles: Roles, groups: Sequence[list[int]]) -> str:
    """Advice to name another column of times, if one increases in every series of several rows."""
    for place, name in enumerate(roles.values or ()):
        steps = [np.diff(whole.values[own, place]) for own in groups if len(own) > 1]
        if all((own > 0).all() for own in steps):
            return f"The column '{name}' increases: if it is that of the times, say task.time={as_typed(name)}. "
    return ""


def _sentence(before: str, advice: str) -> str:
    """The advice as a sentence of its own, or as an alternative to that before it."""
    return f"{before}Otherwise {advice}." if before else f"{advice[0].upper()}{advice[1:]}."


def _one_label(labels: list[str], rows: np.ndarray, key: str, path: Path) -> str | None:
    """The label of a series, which must be the same in all its rows; None if these are blank."""
    for row, label in zip(rows, labels, strict=True):
        if label != labels[0]:
            raise RefusedInput(f"{path}, row {row}: series {key} has the labels {labels[0]!r} and {label!r}.")
    return labels[0] or None
