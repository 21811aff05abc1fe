"""Tasks whose trained models say what comes after the data."""

import abc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ode_runner.plots.figure_types import Figure
from ode_runner.tasks.base import ModelView, Table, Task

WIDTH = 2.0  # standard deviations between the mean, of several seeds or samples, and each edge of their band
LEFT_OUT = ", without the noise of a measurement"  # what no band holds: how far the model is left open is all of it


@dataclass(frozen=True, kw_only=True, eq=False)
class Forecast:
    """The forecast of one series, in the units of its file."""

    series: str
    times: np.ndarray  # (time,)
    values: np.ndarray  # (time, column)
    half_width: np.ndarray | None = None  # of a band around them, (time, column)
    band: str = ""  # what that is, in words


class ForecastingTask(Task):
    """A task of series that can be asked for other times than those of its data."""

    @property
    @abc.abstractmethod
    def dated(self) -> bool:
        """Whether times are dates, which stand for days since 1970-01-01."""

    @abc.abstractmethod
    def forecasts(self, view: ModelView, times: Sequence[float] | None) -> list[Forecast]:
        """Every series at increasing `times`, in the file's unit; None: beyond its end, as far as the task says.

        Of a series that begins later only at those after that; one that has none of them is left out.
        """

    def not_forecast(self, times: Sequence[float]) -> Iterator[str]:
        """A sentence for each series that is forecast at some of the times only, or at none."""
        del times
        yield from ()

    @abc.abstractmethod
    def forecast_table(self, found: Sequence[Forecast]) -> Table:
        """Forecasts in the columns of the file, with two columns more for each where they have bands."""

    @abc.abstractmethod
    def forecast_figure(self, found: Sequence[Forecast]) -> Figure:
        """The series as measured, and what is said of them."""


def table_of(
    found: Sequence[Forecast],
    *,
    series: str | None,
    time: str,
    columns: Sequence[str],
    clock: Callable[[np.ndarray], Sequence[object]],
) -> Table:
    """A row for each time of each series, under these heads; the edges of bands as NAME_low and NAME_high.

    `clock` gives the cells of times.
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
