"""The task of forecasting the user's series with a model that first reads some rows (an encoder)."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self, final

import numpy as np
import torch
from torch import Tensor

from ode_runner.batch import LEARNER, Answer, AnswerTimes, Batch, Learner, Outputs, Split, TaskSpec
from ode_runner.errors import RefusedInput
from ode_runner.plots.animation import Picture
from ode_runner.plots.curves import Samples, draw_curves
from ode_runner.plots.figure_types import Figure
from ode_runner.tasks.base import ModelView
from ode_runner.tasks.batches import in_batches, shuffler
from ode_runner.tasks.forecasting import LEFT_OUT, WIDTH, Forecast
from ode_runner.tasks.observations import on_the_union
from ode_runner.tasks.series.series_reading_pictures import draw_forecasts_of, draw_readings
from ode_runner.tasks.series.series_readings import Readings, ReadingSplits, readings_of, rows_up_to
from ode_runner.tasks.series.series_samples import in_units
from ode_runner.tasks.series.series_scaling import Scaling
from ode_runner.tasks.series.series_splits import Piece
from ode_runner.tasks.series.series_task import SeriesTask
from ode_runner.types import Scalar

TIMES = 2  # uses of each row in an epoch, about; windows are drawn, and one begins at every row
LEAST = 32  # windows in an epoch, if there are so many: fewer do not fill a batch


@final
@dataclass(kw_only=True, eq=False)
class SeriesForecast(SeriesTask):
    """Series of a file, in windows of rows: a model reads the first rows of a window and forecasts the others.

    The loss is the negative log likelihood of the rows of a window, with standard deviation `noise`. With `causal`, a
    model is driven by rows: first those that it reads, then blank rows at the times that are asked for, and only the
    outputs at the latter count. Errors are of the forecast rows, `rmse_fit` is of the rows that were read.

    Rubanova, Chen, Duvenaud. Latent ODEs for Irregularly-Sampled Time Series. NeurIPS 2019, section 4 (extrapolation).
    """

    observed: float  # the share of a window's rows that is read
    causal: bool  # outputs are asked for row by row, for models driven by a series
    noise: float  # standard deviation of a value, in standard deviations of its column
    kl_epochs: int  # epochs in which the weight of the KL divergence rises to 1

    mean_over_samples: ClassVar[bool] = True
    needs: ClassVar[frozenset[Answer]] = frozenset({Answer.VALUES, Answer.STATES})
    gives_series: ClassVar[bool] = True
    reads_first: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self._check()
        self.open_file()
        self.splits = self.held_back(start="last", every_column=False)
        self.reading = ReadingSplits.learned(self.splits, observed=self.observed)
        self._use(self.measured_scaling(standard=True))
        self.blanks = any(np.isnan(one.values).any() for one in self.recorded)
        training = self.samples[Split.TRAIN]
        self.spec = TaskSpec(
            input_shape=tuple(training.inputs.shape[1:]),
            output_shape=(len(self.columns),),
            every_time=True,
            autonomous=True,
            sequence=True,
            blanks=self.blanks or self.causal,
            causal=self.causal,
            duration=float(training.times.max()),
        )

    @classmethod
    def answer_times(cls, options: Mapping[str, Any]) -> AnswerTimes:
        return AnswerTimes.ROWS if options.get("causal") else AnswerTimes.ANY

    def unused_options(self) -> Mapping[str, str]:
        return {"kl_epochs": "task.causal=true draws no states"} if self.causal else {}

    def rising_weights(self) -> Mapping[str, tuple[str, int]]:
        return {"kl": ("kl_epochs", self.kl_epochs)}

    def with_data(self, path: Path) -> Self:
        new = self.on_file(path)
        if not self.blanks and any(np.isnan(one.values).any() for one in new.recorded):
            raise RefusedInput(f"data={path} has blank cells, and the series that the run has learned from have none.")
        new.reading = replace(self.reading, splits=new.splits)
        new._measure()
        if pieces := new.reading.pieces(Split.TEST):
            new.samples = self.samples | {Split.TEST: new._readings(pieces)}
        return new

    def size(self, split: Split) -> int:
        return self.drawn if split is Split.TRAIN else len(self.samples[split].times)

    def batches(self, split: Split, *, batch_size: int, epoch: int) -> Iterator[Batch]:
        generator = shuffler(split, seed=self.seed, epoch=epoch)
        weights = {"kl": min(1.0, (epoch + 1) / self.kl_epochs)} if split is Split.TRAIN else {}
        count = len(self.samples[split].times)
        order = torch.arange(count) if generator is None else torch.randperm(count, generator=generator)
        order = order[: self.size(split)].to(self.device)
        for chosen in in_batches(len(order), batch_size, None, device=self.device):
            yield self._batch(split, order[chosen])._replace(weights=weights)

    def loss(self, outputs: Outputs, batch: Batch) -> Scalar:
        assert batch.observed is not None
        error = (_copies(outputs, batch) - batch.targets[:, None]) / self.noise
        nats = error.square() / 2 + math.log(self.noise) + math.log(math.tau) / 2
        return (nats * batch.observed[:, None]).sum(dim=(0, 3)).mean()

    def metrics(self, outputs: Outputs, batch: Batch) -> dict[str, Scalar]:
        said = _copies(outputs, batch).mean(dim=1)
        asked, read = self._masks(batch)
        squares = (said - batch.targets).square()
        found = {"mse": squares[asked].mean()} | self.column_errors(said, batch.targets, asked)
        if not self.causal:
            found["mse_fit"] = squares[read].mean()
        likelihood = -self.loss(outputs, batch)
        if "kl" not in outputs.terms:
            return found | {"log_likelihood": likelihood}
        kl = outputs.terms["kl"].mean()
        return found | {"elbo": likelihood - kl, "kl": kl}

    def counts(self, outputs: Outputs, batch: Batch) -> dict[str, int]:
        asked, read = self._masks(batch)
        return {"mse": int(asked.sum()), "mse_fit": int(read.sum())} | self.column_counts(asked)

    def use_statistics(self, found: Mapping[str, Tensor]) -> None:
        if found:
            self._use(Scaling.of(found))

    def introduction(self) -> Iterator[str]:
        yield from super().introduction()
        read = f"the first {self.observed:.0%} are read, {self.reading.most} rows at most"
        yield f"  a window is {self.splits.window_in_words()}, of which {read}"
        ahead, learned = (self._most_ahead(split) for split in (Split.TEST, Split.TRAIN))
        if ahead > learned:
            yield (
                f"  the test forecasts up to {ahead} rows at once, and windows {learned}: longer ones, "
                f"task.window={self._fitting_window()}, learn to"
            )

    def remarks(self, metrics: Mapping[str, float], *, learner: Learner = LEARNER) -> Iterator[str]:
        del learner
        if not metrics["test/rmse"] < 0.9:
            window = self._fitting_window()
            longer = (
                f", or with task.window={window}, whose windows forecast about as many rows at once as the test does"
            )
            yield (
                f"forecasts are little better than the mean of the training rows ({metrics['test/rmse']:.2f} standard "
                f"deviations, where the mean has 1). Train longer{longer if self.window != window else ''}."
            )

    def _fitting_window(self) -> int:
        """The window of which as many rows are forecast as the test forecasts at once."""
        return math.ceil(self._most_ahead(Split.TEST) / (1 - self.observed))

    def _most_ahead(self, split: Split) -> int:
        """The largest number of rows that are forecast at once."""
        return max(piece.stop - piece.scored for piece in self.reading.pieces(split))

    def forecasts(self, view: ModelView, times: Sequence[float] | None) -> list[Forecast]:
        return [
            self.forecast(view, self._before(number, float(asked[0])), asked) for number, asked in self.asked(times)
        ]

    def forecast_figure(self, found: Sequence[Forecast]) -> Figure:
        numbers = {one.name: number for number, one in enumerate(self.recorded)}
        pieces = [self._before(numbers[one.series], float(one.times[0])) for one in found]
        return draw_forecasts_of(self.pictures(), found, pieces)

    def figures(self, view: ModelView) -> Iterator[tuple[str, Picture]]:
        if view.history:
            of = "windows, their rows after those read"
            yield "curves", draw_curves(view.history, quality=self.objective, samples=Samples(of, "rows held back"))
        pieces = self.reading.pieces(Split.TEST)
        yield "forecast", draw_readings(
            self.pictures(), pieces, lambda piece, times: self.forecast(view, piece, times), fits=not self.causal,
            beyond=self.reading.before, ahead=self.ahead,
        )  # fmt: skip

    def forecast(self, view: ModelView, piece: Piece, times: np.ndarray) -> Forecast:
        """The forecast at increasing `times`, in the file's units, of a model that reads the first rows of a piece.

        With `causal`, none of the times may be before the last row that is read.
        """
        own, read = self.measured[piece.series], piece._replace(stop=piece.scored)
        inputs = self._readings([read]).inputs.cpu()
        origin = self.recorded[piece.series].times[0]
        later = (torch.from_numpy((times - origin) / float(self.scales.unit)) - own.times[piece.begin]).clamp_min(0.0)
        if self.causal:
            filled, places = rows_up_to(later, start=float(inputs[0, -1, -2]), longest=self.longest)
            blank = inputs.new_full((1, len(filled), len(self.columns)), math.nan)
            asked = torch.cat([blank, filled[None, :, None], torch.ones_like(filled)[None, :, None]], dim=-1)
            inputs = torch.cat([inputs, asked], dim=1)
            ts = torch.arange(inputs.shape[1], dtype=torch.float64)
            places = [piece.scored - piece.begin + place for place in places]
        else:
            ts, places = torch.cat([later.new_zeros(1), later]), list(range(1, len(later) + 1))
        dtype = torch.float32 if self.device.type == "mps" else torch.float64  # mps has no float64
        said = view.predict(inputs.to(self.device, dtype), ts.to(self.device, dtype))[places].cpu()
        values, samples = self.scales.restored(said.mean(dim=1)).numpy(), said.shape[1]
        found = Forecast(series=self.recorded[piece.series].name, times=times, values=values)
        return found if samples == 1 else _with_band(found, self.scales.restored(said).numpy())

    def _before(self, number: int, time: float) -> Piece:
        return self.reading.before(number, int((self.recorded[number].times < time).sum()))

    def _batch(self, split: Split, chosen: Tensor) -> Batch:
        inputs, times, values, known, asked, real = (part[chosen] for part in self.samples[split])
        if self.causal:
            mask = known & asked[..., None]
            return Batch(inputs, self.ts[split], values.transpose(0, 1), observed=mask.transpose(0, 1))
        ts, found, _ = on_the_union(times, torch.cat([values, known.to(values)], dim=-1), real)
        targets, mask = found.chunk(2, dim=-1)
        return Batch(inputs, ts, targets, observed=mask > 0)

    def _masks(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Masks (time, batch, column) of known targets: those asked for, after the rows read; those of rows read."""
        assert batch.observed is not None
        if self.causal:
            return batch.observed, torch.zeros_like(batch.observed)
        last = batch.inputs[..., -2].amax(dim=1)
        later = (batch.ts[:, None] > last)[..., None]
        return batch.observed & later, batch.observed & ~later

    def _use(self, scales: Scaling) -> None:
        """Scales all series with `scales` for the model, and makes the windows of each split."""
        self.scales = scales
        self._measure()
        self.samples = {split: self._readings(self.reading.pieces(split)) for split in Split}
        training = [self.measured[i].times[: self.splits.ends[i].train] for i in self.splits.parts[Split.TRAIN]]
        self.longest = float(torch.cat([times.diff() for times in training]).median())
        windows, rows = len(self.samples[Split.TRAIN].times), sum(map(len, training))
        self.drawn = min(windows, max(LEAST, math.ceil(TIMES * rows / self.window))) if self.window else windows
        self.ts = {
            split: torch.arange(own.times.shape[1], dtype=own.times.dtype, device=self.device)
            for split, own in self.samples.items()
        }

    def _readings(self, pieces: Sequence[Piece]) -> Readings:
        return readings_of(pieces, self.measured, most=self.reading.most, causal=self.causal).to(self.device)

    def _measure(self) -> None:
        both = zip(self.recorded, self.read.series, strict=True)
        self.measured = [in_units(one, whole, self.scales, self.read) for one, whole in both]

    def _check(self) -> None:
        self.check_options()
        if not 0 < self.observed < 1:
            raise RefusedInput(f"task.observed must be a part of a window between 0 and 1, not {self.observed}.")
        if not 0 < self.noise < math.inf:
            raise RefusedInput(f"task.noise must be positive, not {self.noise}: it is the width of the likelihood.")
        if self.kl_epochs < 1:
            raise RefusedInput(f"task.kl_epochs must be at least 1, not {self.kl_epochs}.")


def _copies(outputs: Outputs, batch: Batch) -> Tensor:
    """(time, copies, batch, column): several copies of each window if the model samples several initial states."""
    return outputs.values.unflatten(1, (-1, len(batch.inputs)))


def _with_band(found: Forecast, samples: np.ndarray) -> Forecast:
    """The forecast with a band: the spread of `samples`, (time, samples, columns), of points that have that spread."""
    band = f"{WIDTH:g} standard deviations of {samples.shape[1]} samples of the latent state{LEFT_OUT}"
    return replace(found, half_width=WIDTH * samples.std(axis=1), band=band)
