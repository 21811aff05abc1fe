"""Times for which a series is forecast."""

import numpy as np

from ode_runner.errors import RefusedInput
from ode_runner.tasks.series_file import Recorded, SeriesFile


def beyond(one: Recorded, read: SeriesFile, *, ahead: float | None) -> np.ndarray:
    """Times after the end of a series, as far apart as its rows are at the median.

    Args:
        one: the series.
        read: the file that it is of.
        ahead: how far they go, in the file's unit; None: a quarter of the series' span.

    Raises:
        RefusedInput: it has one row, which tells nothing of that.
    """
    if len(one.times) < 2:
        name = f"series {one.name}" if one.name else str(read.path)
        later = ",".join(read.time_text(one.times[-1] + step) for step in (1.0, 2.0))
        raise RefusedInput(
            f"{name} has one row, which does not tell how far apart and how long to forecast. Type times as well: "
            f"times=[{later}]."
        )
    gap = float(np.median(np.diff(one.times)))
    ahead = (one.times[-1] - one.times[0]) / 4 if ahead is None else ahead
    return one.times[-1] + gap * np.arange(1, max(2, round(ahead / gap) + 1))


def check_not_before(one: Recorded, read: SeriesFile, time: float) -> None:
    """Raises RefusedInput where a time is before the first row of a series."""
    if time < one.times[0]:
        name = f" of series {one.name}" if one.name else ""
        raise RefusedInput(
            f"times begin at {read.time_text(time)}, before the first row{name} at {read.time_text(one.times[0])}."
        )
