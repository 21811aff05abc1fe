"""Conversion of table cells to numbers: measurements, times, and dates as times."""

import math
from pathlib import Path

import numpy as np
import pandas as pd

from ode_runner.errors import RefusedInput, as_typed
from ode_runner.tasks.series.dates import FORM, days_of

BLANK = ("", "NA", "NaN", "nan")  # a cell without a measurement; any other text in a column of numbers is refused
# What the user can do about a cell that is not a number.
BLANK_CELL = "Write digits and a decimal point alone, and leave a cell without a measurement empty."
TIME_CELL = f"Write a number, or a date in the form {FORM}."


def measurements(column: pd.Series, first: int, path: Path, *, advice: str = BLANK_CELL) -> np.ndarray:
    """The cells of a column as float64, NaN if blank.

    Args:
        column: a column of the file.
        first: the number of its first row, as a spreadsheet counts.
        path: of the file, for messages.
        advice: what the user can do about a cell that is not a number.

    Raises:
        RefusedInput: a cell is not a finite number.
    """
    return _numbers(column, first, path, advice)


def times_of(column: pd.Series, first: int, path: Path) -> tuple[np.ndarray, bool]:
    """A column of times as float64, and whether they are dates, which become days since 1970-01-01.

    Arguments and errors are those of `measurements`.
    """
    if _holds_dates(column):
        return _days(column, first, path), True
    return _numbers(column, first, path, _about_times(column)), False


def _about_times(column: pd.Series) -> str:
    """Advice about a cell that is not a time; if not even the first cell is one, the column may be the wrong one."""
    begins = _first_cell(column)
    if begins.lstrip("+-.")[:1].isdigit():
        return TIME_CELL
    name = as_typed(str(column.name))
    return (
        f"{TIME_CELL} If that column is not the time: task.time=NAME, and task.series={name} if it tells series apart."
    )


def about_values(column: pd.Series) -> str:
    """Advice about a cell that is not a number; if not even the first cell is one, the column may name the series."""
    if _first_cell(column).lstrip("+-.")[:1].isdigit():
        return BLANK_CELL
    name = as_typed(str(column.name))
    return f"If that column tells series apart: task.series={name}. If it is not to be learned: task.values=[...]."


def _numbers(column: pd.Series, first: int, path: Path, advice: str) -> np.ndarray:
    """The cells of a column as float64, NaN if blank. Raises RefusedInput with `advice` if a cell is no number."""
    found = np.empty(len(column))
    for place, cell in enumerate(column):
        try:
            found[place] = math.nan if is_blank(cell) else float(cell)
        except (TypeError, ValueError):
            found[place] = math.inf
        if math.isinf(found[place]):
            raise RefusedInput(
                f"{path}, row {place + first}, column '{column.name}': {str(cell).strip()!r} is no finite number. "
                f"{advice}"
            )
    return found


def _holds_dates(column: pd.Series) -> bool:
    """Whether the first cell that is not blank is a date."""
    return days_of(_first_cell(column)) is not None


def _first_cell(column: pd.Series) -> str:
    """The first cell that is not blank; "" if all are blank."""
    return next((str(cell).strip() for cell in column if not is_blank(cell)), "")


def _days(column: pd.Series, first: int, path: Path) -> np.ndarray:
    """The cells of a column of dates as float64, NaN if blank."""
    found = [math.nan if is_blank(cell) else days_of(str(cell).strip()) for cell in column]
    for place, day in enumerate(found):
        if day is None:
            cell = str(column.iloc[place]).strip()
            raise RefusedInput(
                f"{path}, row {place + first}, column '{column.name}': {cell!r} is no date, as the first is. "
                f"Write {FORM}."
            )
    return np.array(found, dtype=np.float64)


def is_blank(cell: object) -> bool:
    """Whether a cell contains no measurement."""
    return cell is None or (isinstance(cell, float) and math.isnan(cell)) or str(cell).strip() in BLANK
