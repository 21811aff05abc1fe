"""The interface of tasks whose trained models forecast beyond the data."""

import abc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ode_runner.plots.figure_types import Figure
from ode_runner.tasks.base import ModelView, Table, Task

WIDTH = 2.0  # half width of a band around the mean of several seeds or samples, in standard deviations
LEFT_OUT = ", without the noise of a measurement"  # bands show the uncertainty of the model alone


@dataclass(frozen=True, kw_only=True, eq=False)
class Forecast:
    """The forecast of one series, in the units of its file."""

    series: str
    times: np.ndarray  # (time,)
    values: np.ndarray  # (time, column)
    half_width: np.ndarray | None = None  # half width of a band around the values, (time, column)
    band: str = ""  # description of the band


class ForecastingTask(Task):
    """A task of series whose models can be asked for outputs at other times than those of the data."""

    @property
    @abc.abstractmethod
    def dated(self) -> bool:
        """Whether times are dates, which are stored as days since 1970-01-01."""

    @abc.abstractmethod
    def forecasts(self, view: ModelView, times: Sequence[float] | None) -> list[Forecast]:
        """Forecasts of every series at increasing `times`, in the file's unit; None: beyond its end.

        A series is forecast only at times after its own beginning, and left out if there are none.
        """

    def not_forecast(self, times: Sequence[float]) -> Iterator[str]:
        """A sentence for each series that is forecast at only some of the times, or at none."""
        del times
        yield from ()

    @abc.abstractmethod
    def forecast_table(self, found: Sequence[Forecast]) -> Table:
        """Forecasts in the columns of the file; bands add two columns for each of these."""

    @abc.abstractmethod
    def forecast_figure(self, found: Sequence[Forecast]) -> Figure:
        """The measured series with their forecasts."""


def table_of(
    found: Sequence[Forecast],
    *,
    series: str | None,
    time: str,
    columns: Sequence[str],
    clock: Callable[[np.ndarray], Sequence[object]],
) -> Table:
    """One row for each time of each series, under the file's column names; bands as columns NAME_low and NAME_high.

    `clock` formats the times.
    """
    named = [] if series is None else [series]
    banded = any(one.half_width is not None for one in found)
    edges = [f"{name}_{edge}" for name in columns for edge in ("low", "high")] if banded else []
    rows: list[list[object]] = []
    for one in found:
        values = one.values
        if banded:
            half = np.zeros_like(values) if one.half_width is None else one.half_width
            sides = np.stack([values - half, values + half], axis=-1)
            values = np.concatenate([values, sides.reshape(len(values), -1)], axis=1)
        for now, row in zip(clock(one.times), values.tolist(), strict=True):
            rows.append([*([one.series] if named else []), now, *row])
    return Table([*named, time, *columns, *edges], rows)
