"""The base of tasks that classify series: series as rows of a tensor, and pictures of them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from ode_runner.batch import Split, TaskSpec
from ode_runner.controls.series import Series
from ode_runner.plots.animation import Picture
from ode_runner.plots.figure_types import Figure
from ode_runner.plots.series import draw_answers, draw_states
from ode_runner.tasks.base import ModelView
from ode_runner.tasks.classification import Classification, Samples

SHOWN = 8  # test series shown in a picture
STATES, MOMENTS = 4, 201  # number of series whose hidden state is drawn, and of times at which it is


class LabelledSeries(NamedTuple):
    """The labelled series of one split."""

    series: Series
    labels: Tensor  # (series,), int64, class numbers from 0


class SeriesClassification(Classification):
    """Series of observations at irregular times, each of one of `classes` classes."""

    gives_series: ClassVar[bool] = True

    def __init__(
        self, splits: Mapping[Split, LabelledSeries], *, classes: int, seed: int, device: torch.device
    ) -> None:
        super().__init__(
            {split: Samples(part.series.rows(), part.labels) for split, part in splits.items()},
            seed=seed,
            device=device,
        )
        self.spec = series_spec({split: part.series for split, part in splits.items()}, outputs=classes)

    def figures(self, view: ModelView) -> Iterator[tuple[str, Picture]]:
        yield from super().figures(view)
        test = self.splits[Split.TEST]
        rows, labels = test.inputs[:SHOWN], test.targets[:SHOWN]
        answers = view.predict(rows, None).argmax(dim=1)
        captions = [f"class {a}, predicted {b}" for a, b in zip(labels.tolist(), answers.tolist(), strict=True)]
        yield from figures_of_series(view, rows, captions, tested=len(test.inputs))


def figures_of_series(
    view: ModelView, rows: Tensor, captions: Sequence[str], *, tested: int
) -> Iterator[tuple[str, Figure]]:
    """The first of `tested` test series with their `captions`, and the hidden states of a few of them."""
    yield "series", draw_answers(Series.of_rows(rows), captions, tested=tested)
    states = view.path(view.encode(rows[:STATES]), MOMENTS)
    yield "hidden_states", draw_states(states, captions[:STATES], tested=tested)


def series_spec(splits: Mapping[Split, Series], *, outputs: int) -> TaskSpec:
    """The TaskSpec of series with outputs at their end; all splits have the same number of rows and channels."""
    training = splits[Split.TRAIN]
    rows, channels = training.values.shape[1:]
    return TaskSpec(
        input_shape=(rows, channels + 2),
        output_shape=(outputs,),
        sequence=True,
        duration=training.duration,
        blanks=any(bool(series.values.isnan().any()) for series in splits.values()),
    )
