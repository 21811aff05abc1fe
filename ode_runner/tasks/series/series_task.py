"""The base of tasks that learn series from a file and forecast them."""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor

from ode_runner.batch import Split
from ode_runner.errors import RefusedInput
from ode_runner.plots.figure_types import Figure
from ode_runner.tasks.base import ModelView, Table
from ode_runner.tasks.forecasting import Forecast, ForecastingTask, table_of
from ode_runner.tasks.observations import with_roots
from ode_runner.tasks.own_data import OwnDataTask
from ode_runner.tasks.series.dates import date_texts
from ode_runner.tasks.series.series_file import check_logarithms, content_of, find_file, read_series
from ode_runner.tasks.series.series_new import read_like
from ode_runner.tasks.series.series_pictures import SeriesPictures
from ode_runner.tasks.series.series_roles import Roles
from ode_runner.tasks.series.series_scaling import Scaling, measured_scaling
from ode_runner.tasks.series.series_splits import SeriesSplits, driven_from
from ode_runner.tasks.series.series_table import lines_of
from ode_runner.tasks.series.series_times import beyond, check_not_before, not_forecast, own_times
from ode_runner.types import Scalar

LEAST_WINDOW = 2  # rows


@dataclass(kw_only=True, eq=False)
class SeriesTask(ForecastingTask, OwnDataTask):
    """Series of a file, in which rows or whole series are held back; forecasts are in the file's units."""

    file: str
    time: str | None
    series: str | None
    values: list[str] | None
    sort: bool
    log: list[str]
    unit: float | None
    split: Literal["time", "series"]
    validation: float  # share of the rows, or of the series; 0: the training rows are used
    test: float
    window: int | None  # rows of a training sample; None: all rows
    ahead: float | None  # how far forecasts go beyond the end, in file units; None: a quarter of the span
    seed: int
    device: torch.device

    test_only: ClassVar[frozenset[str]] = frozenset({"ahead"})
    objective: ClassVar[str] = "rmse"
    higher_is_better: ClassVar[bool] = False
    reads_first: ClassVar[bool] = False  # True: a forecast first reads rows before its times
    splits: SeriesSplits = field(init=False)
    scales: Scaling = field(init=False)

    @classmethod
    def contents(cls, options: Mapping[str, Any]) -> dict[str, str | None]:
        return {"file": content_of(str(options.get("file")), Roles.of(options))}

    @property
    def dated(self) -> bool:
        return self.read.dates

    def reported(self, means: Mapping[str, float]) -> dict[str, float]:
        return with_roots(means)

    def statistics(self) -> dict[str, Tensor]:
        return self.scales.state_dict()

    def introduction(self) -> Iterator[str]:
        yield from lines_of(self.read, self.splits)
        of = "days" if self.dated else f"of {self.read.time}"
        yield f"  a unit of time of the model is {float(self.scales.unit):.4g} {of}"

    def not_forecast(self, times: Sequence[float]) -> Iterator[str]:
        return not_forecast(self.splits.begun(), self.read, times, read_first=self.reads_first)

    def asked(self, times: Sequence[float] | None) -> Iterator[tuple[int, np.ndarray]]:
        """The series that are forecast, by index, and the times of each."""
        if times is not None:
            check_not_before(self.splits.begun(), self.read, times[0], read_first=self.reads_first)
        for number, one in enumerate(self.splits.begun()):
            own = self._beyond(number) if times is None else own_times(one, times, read_first=self.reads_first)
            if len(own):
                yield number, own

    def _beyond(self, number: int) -> np.ndarray:
        """The times of the blank rows at the end of a series; if there are none, times beyond its end up to `ahead`."""
        one, whole = self.recorded[number], self.read.series[number].times
        blank = whole[whole > one.times[-1]]
        return blank if len(blank) else beyond(one, self.read, ahead=self.ahead)

    def forecast_table(self, found: Sequence[Forecast]) -> Table:
        return table_of(
            found, series=self.series, time=self.read.time, columns=self.columns, clock=self._cells_of_times
        )

    def forecast_figure(self, found: Sequence[Forecast]) -> Figure:
        return self.pictures().forecasts(found)

    def tables(self, view: ModelView) -> Iterator[tuple[str, Table]]:
        if view.continuous:
            yield "forecast", self.forecast_table(self.forecasts(view, None))

    def pictures(self) -> SeriesPictures:
        """The object that draws the series of the file."""
        later = self.split == "time" and self.test > 0
        return SeriesPictures(read=self.read, recorded=self.recorded, splits=self.splits, later=later)

    def column_errors(self, said: Tensor, targets: Tensor, known: Tensor) -> dict[str, Scalar]:
        """Mean squared errors in the file's units for each column, over known values (time, batch, column)."""
        apart = self.scales.restored(said) - self.scales.restored(targets)
        found = {}
        for place, name in enumerate(self.columns):
            own = apart[..., place][known[..., place]]
            if own.numel():
                found[f"mse_{_plain(name)}"] = own.square().mean()
        return found

    def column_counts(self, known: Tensor) -> dict[str, int]:
        """The number of values that each of `column_errors` is a mean of."""
        counts = known.flatten(0, 1).sum(dim=0).tolist()
        return {f"mse_{_plain(name)}": own for name, own in zip(self.columns, counts, strict=True)}

    def open_file(self) -> None:
        """Reads the series of the file, and selects their rows that have values.

        Raises:
            RefusedInput: the file cannot be read.
        """
        self.read = read_series(find_file(self.file), Roles.of(vars(self)))
        self.columns = self.read.values
        check_logarithms(self.read, self.log)
        self.recorded = self.read.recorded()

    def held_back(self, *, start: Literal["last", "first"], every_column: bool = True) -> SeriesSplits:
        """The training rows and the rows held back; the options are those of `SeriesSplits`."""
        return SeriesSplits(
            series=self.recorded,
            columns=self.columns,
            path=self.read.path,
            by=self.split,
            validation=self.validation,
            test=self.test,
            window=self.window,
            start=start,
            every_column=every_column,
            driven=driven_from(self.read),
        )

    def on_file(self, path: Path) -> Self:
        """A copy of this task with the series of another file, all of which are held back; they are not yet scaled."""
        new = copy.copy(self)
        new.read = read_like(self.read, path, series=self.series, sort=self.sort)
        check_logarithms(new.read, self.log)
        new.recorded = new.read.recorded()
        new.splits = replace(
            self.splits,
            series=new.recorded,
            path=path,
            by="series",
            validation=0.0,
            test=0.0,
            least=1,
            driven=driven_from(new.read),
        )
        new.split, new.validation, new.test = "series", 0.0, 0.0
        return new

    def measured_scaling(self, *, standard: bool) -> Scaling:
        """The scaling computed from the training rows."""
        training = [(self.recorded[i], self.splits.ends[i].train) for i in self.splits.parts[Split.TRAIN]]
        starts = [one.times[0] for one, _ in training]
        ends = [one.times[stop - 1] for one, stop in training]
        whole = {one.name: one for one in self.read.series}
        inputs = [
            whole[one.name].inputs[whole[one.name].times <= end] for (one, _), end in zip(training, ends, strict=True)
        ]
        return measured_scaling(
            [one.values[:stop] for one, stop in training],
            inputs,
            [one.times[:stop] - start for (one, stop), start in zip(training, starts, strict=True)],
            log=[name in self.log for name in self.columns],
            standard=standard,
            unit=self.unit,
        )

    def check_options(self) -> None:
        """Raises RefusedInput if an option is out of its range."""
        for name in ("validation", "test"):
            if not 0 <= getattr(self, name) < 1:
                raise RefusedInput(f"task.{name} must be a part from 0 to below 1, not {getattr(self, name)}.")
        if self.window is not None and self.window < LEAST_WINDOW:
            raise RefusedInput(
                f"task.window must be at least {LEAST_WINDOW} rows, or null for all of them, not {self.window}."
            )
        for name in ("unit", "ahead"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise RefusedInput(f"task.{name} must be positive or null, not {value}.")

    def _cells_of_times(self, times: np.ndarray) -> Sequence[object]:
        return date_texts(times) if self.dated else [float(f"{time:.15g}") for time in times]


def _plain(name: str) -> str:
    """A column's name as part of a metric's name."""
    return "".join(mark if mark.isalnum() else "_" for mark in name)
