"""The times at which a series is forecast."""

from collections.abc import Iterator, Sequence

import numpy as np

from ode_runner.errors import RefusedInput
from ode_runner.tasks.series.series_file import Recorded, SeriesFile

MOST = 10_000  # default times of a forecast at most: series with bursts of rows would get millions


def beyond(one: Recorded, read: SeriesFile, *, ahead: float | None) -> np.ndarray:
    """Times after the end of a series, spaced by the median gap of its rows, or more widely to have at most MOST.

    Args:
        one: the series.
        read: its file.
        ahead: how far the times go, in the file's unit; None: a quarter of the series' span.

    Raises:
        RefusedInput: it has only one row, which gives neither gap nor span.
    """
    if len(one.times) < 2:
        name = f"series {one.name}" if one.name else str(read.path)
        later = ",".join(read.time_text(one.times[-1] + step) for step in (1.0, 2.0))
        raise RefusedInput(
            f"{name} has one row, which does not tell how far apart and how long to forecast. Type times as well: "
            f"times=[{later}]."
        )
    ahead = float(one.times[-1] - one.times[0]) / 4 if ahead is None else ahead
    gap = max(float(np.median(np.diff(one.times))), ahead / MOST)
    return one.times[-1] + gap * np.arange(1, max(2, round(ahead / gap) + 1))


def own_times(one: Recorded, times: Sequence[float], *, read_first: bool) -> np.ndarray:
    """Those of increasing `times` at which a series can be forecast: none before its first row.

    `read_first`: the first row is excluded as well, since a row has to be read before.
    """
    asked = np.array(times, dtype=np.float64)
    return asked[asked > one.times[0]] if read_first else asked[asked >= one.times[0]]


def check_not_before(series: Sequence[Recorded], read: SeriesFile, time: float, *, read_first: bool) -> None:
    """Raises RefusedInput if the first of the times is before the first row of every series.

    `read_first`: or at it, since a row has to be read before.
    """
    first = min(series, key=lambda one: float(one.times[0]))
    of = "" if not first.name else f" of series {first.name}" + ", the first to begin," * (len(series) > 1)
    if time < first.times[0]:
        raise RefusedInput(
            f"times begin at {read.time_text(time)}, before the first row{of} at which a solve can begin, at "
            f"{read.time_text(first.times[0])}."
        )
    if read_first and time == first.times[0]:
        raise RefusedInput(
            f"times begin at {read.time_text(time)}, the first row{of}: a forecast begins with rows that are read "
            "before it. Leave that time out."
        )


def not_forecast(
    series: Sequence[Recorded], read: SeriesFile, times: Sequence[float], *, read_first: bool
) -> Iterator[str]:
    """A sentence for each series that begins after some of `times`: at how many of them it is forecast."""
    for one in series:
        left = len(own_times(one, times, read_first=read_first))
        if left < len(times):
            how = f"at {left} of the {len(times)} times" if left else "at none of the times"
            yield f"series {one.name}, which begins at {read.time_text(float(one.times[0]))}, is forecast {how}."
