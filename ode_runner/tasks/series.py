"""One's own measurements, from a file."""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, final

import numpy as np
import torch
from torch import Tensor

from ode_runner.batch import Batch, Drive, Outputs, Split, TaskSpec
from ode_runner.errors import RefusedInput
from ode_runner.figures import Figure
from ode_runner.plots.animation import Picture
from ode_runner.plots.curves import draw_curves
from ode_runner.tasks.base import ModelView, Table
from ode_runner.tasks.batches import in_batches, shuffler
from ode_runner.tasks.dates import date_texts
from ode_runner.tasks.forecasting import Forecast, ForecastingTask, table_of
from ode_runner.tasks.least_squares import LeastSquaresTask
from ode_runner.tasks.observations import on_the_union, with_roots
from ode_runner.tasks.own_data import OwnDataTask
from ode_runner.tasks.series_file import Roles, check_logarithms, content_of, find_file, read_series
from ode_runner.tasks.series_new import check_begins, read_like
from ode_runner.tasks.series_pictures import SeriesPictures
from ode_runner.tasks.series_samples import Samples, in_units, inputs_of, samples_of
from ode_runner.tasks.series_scaling import Scaling, measured_scaling
from ode_runner.tasks.series_splits import Piece, SeriesSplits
from ode_runner.tasks.series_table import lines_of
from ode_runner.tasks.series_times import beyond, check_not_before
from ode_runner.types import Scalar


@final
@dataclass(kw_only=True, eq=False)
class Series(LeastSquaresTask, ForecastingTask, OwnDataTask):
    """Series of a file, learned from windows of successive rows and asked for rows that were held back.

    With `split=time` the last rows of every series are the test and those before them validation, each forecast from
    the row before; with `split=series` whole series are, solved from their first row. A blank cell is in no error. A
    solve begins at the values of a row; where one of them is blank, at the last one before it, or, in training, on the
    line between its neighbours. Errors are in standard deviations of the training rows, and in the file's units by the
    column's name.
    """

    file: str
    time: str | None
    series: str | None
    values: list[str] | None
    inputs: list[str]
    between: Literal["hold", "linear"]
    sort: bool
    log: list[str]
    scaling: Literal["standard", "none"]
    unit: float | None
    split: Literal["time", "series"]
    validation: float  # of the rows, or of the series; 0: judged by the training rows
    test: float
    window: int | None  # rows of a training sample; None: all
    start: Literal["last", "first"]  # where a forecast begins: the last known row, or the first of the series
    ahead: float | None  # of the forecast beyond the end, in the file's unit of time; None: a quarter of the span
    seed: int
    device: torch.device

    test_only: ClassVar[frozenset[str]] = frozenset({"ahead"})
    objective: ClassVar[str] = "rmse"
    higher_is_better: ClassVar[bool] = False

    def __post_init__(self) -> None:
        self._check()
        self.read = read_series(find_file(self.file), Roles.of(vars(self)))
        self.columns = self.read.values
        check_logarithms(self.read, self.log)
        self.recorded = [one.with_values() for one in self.read.series]
        self.splits = SeriesSplits(
            series=self.recorded,
            columns=self.columns,
            path=self.read.path,
            by=self.split,
            **{name: getattr(self, name) for name in ("validation", "test", "window", "start")},
        )
        self._use(self._measured_scaling())
        self.spec = TaskSpec(
            input_shape=(len(self.columns),),
            output_shape=(len(self.columns),),
            every_time=True,
            autonomous=True,
            series=len(self.recorded),
            whole_series=self.window is None and self.start == "first" and self.split == "time",
            drive=Drive(columns=len(self.inputs), held=self.between == "hold") if self.inputs else None,
        )

    @classmethod
    def contents(cls, options: Mapping[str, Any]) -> dict[str, str | None]:
        return {"file": content_of(str(options.get("file")), Roles.of(options))}

    def with_data(self, path: Path) -> Self:
        new = copy.copy(self)
        new.read = read_like(self.read, path, series=self.series, sort=self.sort)
        check_logarithms(new.read, self.log)
        new.recorded = [one.with_values() for one in new.read.series]
        check_begins(new.recorded, new.read)
        new.splits = replace(
            self.splits, series=new.recorded, path=path, by="series", validation=0.0, test=0.0, least=1
        )
        new.split, new.validation, new.test = "series", 0.0, 0.0
        new._use(self.scales)
        return new

    @property
    def dated(self) -> bool:
        return self.read.dates

    def size(self, split: Split) -> int:
        return sum(len(samples.times) for samples in self.samples[split].values())

    def batches(self, split: Split, *, batch_size: int, epoch: int) -> Iterator[Batch]:
        for part, samples in self.samples[split].items():
            generator = shuffler(split, seed=self.seed, epoch=epoch)
            for chosen in in_batches(len(samples.times), batch_size, generator, device=torch.device("cpu")):
                yield self._batch(samples, chosen, part)

    @property
    def each_once(self) -> bool:
        return self.window is None

    def residuals(self, outputs: Outputs, batch: Batch) -> Tensor:
        return self.scales.errors(outputs.values, batch.targets)[batch.observed]

    def metrics(self, outputs: Outputs, batch: Batch) -> dict[str, Scalar]:
        mse = self.residuals(outputs, batch).square().mean()
        if batch.part:
            return {f"mse_{batch.part}": mse}
        apart = self.scales.restored(outputs.values) - self.scales.restored(batch.targets)
        found = {"mse": mse}
        for place, name in enumerate(self.columns):
            own = apart[..., place][batch.observed[..., place]] if batch.observed is not None else apart[..., place]
            if own.numel():
                found[f"mse_{_plain(name)}"] = own.square().mean()
        return found

    def counts(self, outputs: Outputs, batch: Batch) -> dict[str, int]:
        assert batch.observed is not None
        found = super().counts(outputs, batch)
        if batch.part:
            return found | {f"mse_{batch.part}": found["loss"]}
        known = batch.observed.flatten(0, 1).sum(dim=0).tolist()
        return (
            found
            | {"mse": found["loss"]}
            | {f"mse_{_plain(name)}": own for name, own in zip(self.columns, known, strict=True)}
        )

    def reported(self, means: Mapping[str, float]) -> dict[str, float]:
        return with_roots(means)

    def statistics(self) -> dict[str, Tensor]:
        return self.scales.state_dict()

    def use_statistics(self, found: Mapping[str, Tensor]) -> None:
        if found:
            self._use(Scaling.of(found))

    def remarks(self, metrics: Mapping[str, float]) -> Iterator[str]:
        fit = metrics.get("test/rmse_fit", metrics["test/rmse"])
        if not fit < 0.9:
            yield (
                f"the model follows its training series little better than their mean does ({fit:.2f} standard "
                "deviations from their first row on, where the mean has 1). Train longer, or choose a shorter "
                "task.window."
            )

    def introduction(self) -> Iterator[str]:
        yield from lines_of(self.read, self.splits)
        of = "days" if self.dated else f"of {self.read.time}"
        yield f"  a unit of time of the model is {float(self.scales.unit):.4g} {of}"

    def forecasts(self, view: ModelView, times: Sequence[float] | None) -> list[Forecast]:
        found = []
        for number, one in enumerate(self.recorded):
            asked = beyond(one, self.read, ahead=self.ahead) if times is None else np.array(times, dtype=np.float64)
            check_not_before(one, self.read, float(asked[0]))
            end = len(one.times) - 1
            begin = 0 if self.start == "first" or asked[0] < one.times[end] else end
            found.append(Forecast(series=one.name, times=asked, values=self._at(view, number, begin, asked)))
        return found

    def forecast_table(self, found: Sequence[Forecast], bands: Sequence[np.ndarray]) -> Table:
        return table_of(
            found, bands, series=self.series, time=self.read.time, columns=self.columns, clock=self._cells_of_times
        )

    def _cells_of_times(self, times: np.ndarray) -> Sequence[object]:
        return date_texts(times) if self.dated else [float(f"{time:.15g}") for time in times]

    def forecast_figure(self, found: Sequence[Forecast], bands: Sequence[np.ndarray]) -> Figure:
        return self._pictures().forecasts(found, bands)

    def tables(self, view: ModelView) -> Iterator[tuple[str, Table]]:
        if view.continuous:
            yield "forecast", self.forecast_table(self.forecasts(view, None), [])

    def figures(self, view: ModelView) -> Iterator[tuple[str, Picture]]:
        if view.history:
            yield "curves", draw_curves(view.history, quality=self.objective, samples=self.splits.samples())
        if view.continuous:
            yield "forecast", self._pictures().fits(partial(self._at, view), ahead=self.ahead)

    def _pictures(self) -> SeriesPictures:
        later = self.split == "time" and self.test > 0
        return SeriesPictures(read=self.read, recorded=self.recorded, splits=self.splits, later=later)

    def _check(self) -> None:
        for name in ("validation", "test"):
            if not 0 <= getattr(self, name) < 1:
                raise RefusedInput(f"task.{name} must be a part from 0 to below 1, not {getattr(self, name)}.")
        if self.window is not None and self.window < 2:
            raise RefusedInput(f"task.window must be at least 2 rows, or null for all of them, not {self.window}.")
        for name in ("unit", "ahead"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise RefusedInput(f"task.{name} must be positive or null, not {value}.")

    def _measured_scaling(self) -> Scaling:
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
            standard=self.scaling == "standard",
            unit=self.unit,
        )

    def _use(self, scales: Scaling) -> None:
        """Scale all series to these units, for the model."""
        self.scales = scales
        both = zip(self.recorded, self.read.series, strict=True)
        self.measured = [in_units(one, whole, scales, self.read) for one, whole in both]
        self.samples = {
            split: {part: samples_of(own, self.measured).to(self.device) for part, own in parts.items()}
            for split, parts in self.splits.pieces().items()
        }

    def _batch(self, samples: Samples, chosen: Tensor, part: str) -> Batch:
        both = torch.cat([samples.values[chosen], samples.known[chosen].to(samples.values)], dim=-1)
        ts, found, _ = on_the_union(samples.times[chosen], both, samples.real[chosen])
        targets, known = found.chunk(2, dim=-1)
        return Batch(samples.inputs[chosen], ts, targets, observed=known > 0, part=part)

    def _at(self, view: ModelView, number: int, begin: int, times: np.ndarray) -> np.ndarray:
        """Values (time, columns) at increasing `times`, in the file's units, of a solve from a row."""
        own = self.measured[number]
        times = (times - self.recorded[number].times[0]) / float(self.scales.unit)
        known = self.splits.ends[number].train if begin == 0 else begin + 1
        later = torch.from_numpy(times) - own.times[begin]
        ts = torch.cat([later.new_zeros(1), later.clamp_min(0.0)])
        inputs = inputs_of([Piece(number, begin, begin + 1, begin, known)], self.measured, spans=[float(ts[-1])])
        dtype = torch.float32 if self.device.type == "mps" else torch.float64  # which mps has not
        values = view.predict(inputs.to(self.device, dtype), ts.to(self.device, dtype))[1:, 0]
        return self.scales.restored(values).cpu().numpy()


def _plain(name: str) -> str:
    """A column's name as a part of a metric's."""
    return "".join(mark if mark.isalnum() else "_" for mark in name)
