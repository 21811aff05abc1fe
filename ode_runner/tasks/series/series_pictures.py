"""Pictures of series from a file, with the outputs of a model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ode_runner.batch import Split
from ode_runner.plots.figure_types import Figure
from ode_runner.plots.forecast import Line, Panel, draw_forecasts
from ode_runner.tasks.forecasting import Forecast
from ode_runner.tasks.series.dates import for_axes
from ode_runner.tasks.series.series_file import Recorded, SeriesFile
from ode_runner.tasks.series.series_splits import SeriesSplits
from ode_runner.tasks.series.series_times import beyond

SHOWN = 4  # series in a picture


@dataclass(frozen=True, kw_only=True, eq=False)
class SeriesPictures:
    """One panel for each of the first few series, with its measurements and a model's curves."""

    read: SeriesFile
    recorded: Sequence[Recorded]
    splits: SeriesSplits
    later: bool  # whether the test split is the last rows of every series

    def forecasts(self, found: Sequence[Forecast]) -> Figure:
        """Forecasts, with their bands if they have any."""
        panels, numbers = [], {one.name: number for number, one in enumerate(self.recorded)}
        for one in found[:SHOWN]:
            line = Line("forecast", self.axis(one.times), one.values, one.half_width, one.band)
            panels.append(self.panel(numbers[one.series], [line]))
        return draw_forecasts(panels, self.read.values, self.read.time, series=len(found))

    def fits(self, values_at: Callable[[int, int, np.ndarray], np.ndarray], *, ahead: float | None) -> Figure:
        """The first series of the test split: the fit, the test, and the forecast up to `ahead` after the end.

        `values_at(number, row, times)` returns values (time, columns) of a series, by a solve from one of its rows.
        """
        panels, tested = [], self.splits.parts[Split.TEST]
        for number in tested[:SHOWN]:
            lines = []
            end = beyond(self.recorded[number], self.read, ahead=ahead)[-1]
            for label, begin, start, stop in _solves_shown(self.splits, number, end=end):
                times = np.linspace(start, stop, 201)
                lines.append(Line(label, self.axis(times), values_at(number, begin, times), None))
            panels.append(self.panel(number, lines))
        return draw_forecasts(panels, self.read.values, self.read.time, series=len(tested))

    def panel(self, number: int, lines: Sequence[Line], **rows: np.ndarray) -> Panel:
        """The panel of series `number`; `rows` are masks of the rows read and asked for, as in `Panel`."""
        one = self.recorded[number]
        times = self.axis(one.times)
        begin = times[self.splits.ends[number].validation - 1] if self.later else None
        return Panel(title=one.name, times=times, values=one.values, lines=lines, test_begin=begin, **rows)

    def axis(self, times: np.ndarray) -> np.ndarray:
        """Times as an axis of a picture shows them."""
        return for_axes(times) if self.read.dates else times


def _solves_shown(splits: SeriesSplits, number: int, *, end: float) -> list[tuple[str, int, float, float]]:
    """The solves shown in a picture of a series: for each a label, its initial row, and its first and last time."""
    times, ends, first = splits.series[number].times, splits.ends[number], splits.begin(number)
    if splits.by == "series" or splits.start == "first":
        return [("model, from the first time", first, times[first], end)]
    solves = [("model, from the first time", first, times[first], times[ends.train - 1])]
    if splits.test:
        cut = ends.validation - 1
        solves.append(("forecast of the test", cut, times[cut], times[-1]))
    return [*solves, ("forecast beyond the end", ends.test - 1, times[-1], end)]
