"""The task of forecasting the user's series of measurements, read from a file."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal, Self, final

import numpy as np
import torch
from torch import Tensor

from ode_runner.batch import LEARNER, Batch, Drive, Learner, Outputs, Split, TaskSpec
from ode_runner.plots.animation import Picture
from ode_runner.plots.curves import draw_curves
from ode_runner.tasks.base import ModelView
from ode_runner.tasks.batches import in_batches, shuffler
from ode_runner.tasks.forecasting import Forecast
from ode_runner.tasks.least_squares import LeastSquaresTask
from ode_runner.tasks.observations import on_the_union
from ode_runner.tasks.series.series_new import check_begins
from ode_runner.tasks.series.series_samples import Samples, in_units, inputs_of, samples_of
from ode_runner.tasks.series.series_scaling import Scaling
from ode_runner.tasks.series.series_splits import Piece
from ode_runner.tasks.series.series_task import LEAST_WINDOW, SeriesTask
from ode_runner.types import Scalar


@final
@dataclass(kw_only=True, eq=False)
class Series(LeastSquaresTask, SeriesTask):
    """Series of a file: a model learns windows of consecutive rows, and is tested on rows that are held back.

    With `split=time`, the last rows of every series are the test split and those before them validation; each of the
    two is forecast from the row before it. With `split=series`, whole series are held back, and solved from their first
    row. Blank cells do not count in an error. A solve begins at the values of a row; a value missing there is the last
    known one or, in training, interpolated linearly. Rows before the first value of a column or an input are left out,
    because a solve from there would begin at a later value. Errors are in standard deviations of the training rows;
    those named after a column are in the file's units.
    """

    inputs: list[str]
    between: Literal["hold", "linear"]
    scaling: Literal["standard", "none"]
    start: Literal["last", "first"]  # first row of a forecast's solve: the last known one, or the first of the series

    gives_points: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self.check_options()
        self.open_file()
        self.splits = self.held_back(start=self.start)
        self._use(self.measured_scaling(standard=self.scaling == "standard"))
        self.spec = TaskSpec(
            input_shape=(len(self.columns),),
            output_shape=(len(self.columns),),
            every_time=True,
            autonomous=True,
            series=len(self.recorded),
            whole_series=self.window is None and self.start == "first" and self.split == "time",
            drive=Drive(columns=len(self.inputs), held=self.between == "hold") if self.inputs else None,
        )

    def introduction(self) -> Iterator[str]:
        yield from super().introduction()
        yield f"  a window is {self.splits.window_in_words()}"

    def unused_options(self) -> Mapping[str, str]:
        return {} if self.inputs else {"between": "task.inputs=[]"}

    def with_data(self, path: Path) -> Self:
        new = self.on_file(path)
        check_begins(new.recorded, new.read)
        new._use(self.scales)
        return new

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
        assert batch.observed is not None
        return {"mse": mse} | self.column_errors(outputs.values, batch.targets, batch.observed)

    def counts(self, outputs: Outputs, batch: Batch) -> dict[str, int]:
        assert batch.observed is not None
        found = super().counts(outputs, batch)
        if batch.part:
            return found | {f"mse_{batch.part}": found["loss"]}
        return found | {"mse": found["loss"]} | self.column_counts(batch.observed)

    def use_statistics(self, found: Mapping[str, Tensor]) -> None:
        if found:
            self._use(Scaling.of(found))

    def remarks(self, metrics: Mapping[str, float], *, learner: Learner = LEARNER) -> Iterator[str]:
        del learner
        fit = metrics.get("test/rmse_fit", metrics["test/rmse"])
        if not fit < 0.9:
            yield (
                f"the model follows its training series little better than their mean does ({fit:.2f} standard "
                "deviations from their first row on, where the mean has 1). Train longer"
                f"{'' if self.window == LEAST_WINDOW else ', or choose a shorter task.window'}."
            )

    def forecasts(self, view: ModelView, times: Sequence[float] | None) -> list[Forecast]:
        found = []
        for number, asked in self.asked(times):
            one = self.recorded[number]
            first = self.splits.begin(number)
            begin = first if self.start == "first" else int((one.times <= asked[0]).sum()) - 1
            found.append(Forecast(series=one.name, times=asked, values=self._at(view, number, begin, asked)))
        return found

    def figures(self, view: ModelView) -> Iterator[tuple[str, Picture]]:
        if view.history:
            yield "curves", draw_curves(view.history, quality=self.objective, samples=self.splits.samples())
        if view.continuous:
            yield "forecast", self.pictures().fits(partial(self._at, view), ahead=self.ahead)

    def _use(self, scales: Scaling) -> None:
        """Scales all series with `scales` for the model, and makes the samples of each split."""
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
        """Values (time, columns) at increasing `times`, in the file's units, by a solve from row `begin`."""
        own = self.measured[number]
        times = (times - self.recorded[number].times[0]) / float(self.scales.unit)
        known = self.splits.ends[number].train if begin == self.splits.begin(number) else begin + 1
        later = torch.from_numpy(times) - own.times[begin]
        ts = torch.cat([later.new_zeros(1), later.clamp_min(0.0)])
        inputs = inputs_of([Piece(number, begin, begin + 1, begin, known)], self.measured, spans=[float(ts[-1])])
        dtype = torch.float32 if self.device.type == "mps" else torch.float64  # mps has no float64
        values = view.predict(inputs.to(self.device, dtype), ts.to(self.device, dtype))[1:, 0]
        return self.scales.restored(values).cpu().numpy()
