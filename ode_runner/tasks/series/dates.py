"""Dates as times: days since 1970-01-01."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
MONTH = re.compile(r"\d{4}-\d\d")
FORM = "2024-03-01 or 2024-03-01T12:30"  # for messages: ISO 8601, since day and month cannot be confused in it


def days_of(text: str) -> float | None:
    """A date in ISO 8601 as days since 1970-01-01; None if it is not such a date.

    Without a time of day it is midnight, without a time zone UTC. A month, 2024-03, is its first day.
    """
    if not MONTH.match(text):
        return None
    try:
        found = datetime.fromisoformat(f"{text}-01" if MONTH.fullmatch(text) else text)
    except ValueError:
        return None
    return (found.replace(tzinfo=found.tzinfo or UTC) - EPOCH) / DAY


def date_texts(days: Sequence[float] | np.ndarray) -> list[str]:
    """Dates in ISO 8601, to the second; without time of day if all of them are at midnight."""
    found = [EPOCH + timedelta(seconds=round(day * 86400)) for day in np.asarray(days, dtype=np.float64).tolist()]
    whole = all((moment.hour, moment.minute, moment.second) == (0, 0, 0) for moment in found)
    return [str(moment.date()) if whole else moment.replace(tzinfo=None).isoformat() for moment in found]


def for_axes(days: np.ndarray) -> np.ndarray:
    """Times as datetime64, which matplotlib shows as dates."""
    return (np.asarray(days, dtype=np.float64) * 86_400_000).round().astype("datetime64[ms]")
