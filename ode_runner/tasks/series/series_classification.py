"""What the tasks share that classify series: the series as rows, and pictures of them."""

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

SHOWN = 8  # test series in a picture
STATES, MOMENTS = 4, 201  # of which the hidden state is drawn, at so many places


class LabelledSeries(NamedTuple):
    """The labelled series of one split."""

    series: Series
    labels: Tensor  # (series,), int64, class numbers from 0


class SeriesClassification(Classification):
    """Series of observations at times of their own, each of one of a few `classes`."""

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
        told = [f"class {a}, said {b}" for a, b in zip(labels.tolist(), answers.tolist(), strict=True)]
        yield from figures_of_series(view, rows, told, tested=len(test.inputs))


def figures_of_series(
    view: ModelView, rows: Tensor, told: Sequence[str], *, tested: int
) -> Iterator[tuple[str, Figure]]:
    """Series, the first of so many of the test, with what is said of each, and the hidden states of some."""
    yield "series", draw_answers(Series.of_rows(rows), told, tested=tested)
    states = view.path(view.encode(rows[:STATES]), MOMENTS)
    yield "hidden_states", draw_states(states, told[:STATES], tested=tested)


def series_spec(splits: Mapping[Split, Series], *, outputs: int) -> TaskSpec:
    """What a network must know of series that are answered at their end; the splits have as many rows and channels."""
    training = splits[Split.TRAIN]
    rows, channels = training.values.shape[1:]
    return TaskSpec(
        input_shape=(rows, channels + 2),
        output_shape=(outputs,),
        sequence=True,
        duration=training.duration,
        blanks=any(bool(series.values.isnan().any()) for series in splits.values()),
    )
