"""Lists of numbers and dates as they are typed on a command line."""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from ode_runner.errors import RefusedInput, as_typed
from ode_runner.tasks.series.dates import FORM, MONTH, days_of

MOST_TIMES = 1_000_000
DATES = "times=[2024-03-01,2024-03-02]"
SPACED_DATES = re.compile(r"(\d{4}-\d\d.*?):(\d{4}-\d\d.*):(\d+)")


def typed_times(times: Any) -> np.ndarray:
    """The typed times, `[0, 0.5, 2]` or `begin:end:count`, as float64 (time,); RefusedInput unless they increase."""
    check_no_file("times", times, example="[0,0.5,2]")
    found = _spaced(times) if isinstance(times, str) else numbers(times if isinstance(times, list) else [times])
    if found is None and any(MONTH.match(part) for part in _texts(times)):
        raise RefusedInput(f"times={as_typed(times)}: times of this run are numbers, and no dates.")
    if found is None or found.ndim != 1 or len(found) == 0:
        raise RefusedInput(f"times={as_typed(times)} is neither a list, such as [0,0.5,2], nor begin:end:count.")
    return _increasing(found, times)


def typed_dates(times: Any) -> np.ndarray:
    """The typed dates, `[2024-03-01,2024-03-02]` or `begin:end:count`, as days since 1970 in float64 (time,).

    Raises:
        RefusedInput: they are not dates, or do not increase.
    """
    spaced = SPACED_DATES.fullmatch(times) if isinstance(times, str) else None
    if spaced:
        begin, end, count = spaced.groups()
        _check_count(times, int(count))
        days = [days_of(begin), days_of(end)]
    else:
        days = [days_of(str(text)) for text in (times if isinstance(times, list) else [times])]
    if not days or None in days or (spaced and not int(count)):
        raise RefusedInput(
            f"times={as_typed(times)}: times of this run are dates. Type them in the form {FORM}, as {DATES} or "
            "begin:end:count."
        )
    found = np.array(days, dtype=np.float64)
    return _increasing(np.linspace(found[0], found[1], int(count)) if spaced else found, times)


def _increasing(found: np.ndarray, times: Any) -> np.ndarray:
    if bool((found[1:] <= found[:-1]).any()):
        raise RefusedInput(f"times={as_typed(times)} must increase from each to the next.")
    return found


def _texts(times: Any) -> list[str]:
    return [text for text in (times if isinstance(times, list) else [times]) if isinstance(text, str)]


def _check_count(times: Any, count: int) -> None:
    if count > MOST_TIMES:  # before memory is allocated
        raise RefusedInput(f"times={as_typed(times)} asks for more than {MOST_TIMES:,} times.")


def _spaced(times: str) -> np.ndarray | None:
    """Equally spaced times from `begin:end:count`; None if the text has another form."""
    try:
        begin, end, count = times.split(":")
        first, last, many = float(begin), float(end), int(count)
    except ValueError:
        return None
    _check_count(times, many)
    return np.linspace(first, last, many) if many > 0 and math.isfinite(last - first) else None


def numbers(values: list[Any]) -> np.ndarray | None:
    """Nested lists of finite numbers as an array; None if something else is among them or lengths differ."""
    try:
        found = np.array(values)
    except (OverflowError, ValueError):  # lists of several lengths
        return None
    plain = found.dtype.kind in "iuf" and not _holds_a_truth_value(values)
    return found.astype(np.float64) if plain and bool(np.isfinite(found).all()) else None


def _holds_a_truth_value(values: Any) -> bool:
    """Whether a bool is among the values: numpy would convert it to a number if there are numbers as well."""
    return any(map(_holds_a_truth_value, values)) if isinstance(values, list) else isinstance(values, bool)


def check_no_file(option: str, value: Any, *, example: str | None) -> None:
    """Raises RefusedInput if the value looks like a file name: files are not read."""
    if isinstance(value, str) and (Path(value).is_file() or re.search(r"[^:]\.\D|/", value)):
        numbers = "nested lists of numbers" if example is None else f"the numbers, such as {option}={example}"
        raise RefusedInput(
            f"{option}={as_typed(value)}: no file is read. Type {numbers}, or "
            f'{option}="$(cat FILE)" for a file that holds them so.'
        )
