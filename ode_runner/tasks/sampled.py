"""The base of tasks that judge a model by its samples."""

import abc
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from ode_runner.batch import LEARNER, Answer, Drawn, Learner
from ode_runner.plots.figure_types import Figure
from ode_runner.tasks.base import ModelView, Table, Task

OFF = 0.25  # of the data's spread: samples further away, beyond the floor, get a warning; trained models are at 0.1
LEFT_BY_SOLVER = "The solver diverges on the way. Use more steps, or another solver."
FAR_BY_LENGTH = "The solver's steps are too long. Use more steps, or another solver."
FAR_BY_SOLVER = (
    "Either the solver's steps are too long, or the model has not learned the data: ode-run evaluate=FOLDER with twice "
    "as many steps tells which."
)


class SampledTask(Task):
    """A task whose models can draw samples of its data, under conditions if there are any."""

    drawn_times: ClassVar[int] = 2  # number of times along the way of the samples that their pictures need
    finely_solved: ClassVar[int | None] = None  # number of samples compared with those of a fine solve; None: all

    @abc.abstractmethod
    def sampled_conditions(self) -> Tensor:
        """The conditions of the samples that judge a model, (sample, condition); `condition` may be 0."""

    def given(self, count: int) -> list[Tensor]:
        """The conditions of `count` samples: `sampled_conditions`, repeated from the first on if there are too few."""
        conditions = self.sampled_conditions()
        return [conditions[torch.arange(count) % len(conditions)]] if self.spec.condition else []

    def sample_remarks(self, view: ModelView, drawn: Drawn, given: Sequence[Tensor]) -> Iterator[str]:
        """Warnings about samples that were drawn of a trained run under the conditions `given`."""
        del view, drawn, given
        yield from ()

    def drawn(self, view: ModelView, *, times: int = 2) -> Drawn:
        """The samples by which a model is judged, at `times` times along their way; needs a view that can sample."""
        assert view.sample is not None
        count = len(self.sampled_conditions())
        return view.sample(count, times, self.given(count))

    def spread(self) -> float:
        """The `sw2` of samples that all equal the mean of the data; NaN if the task does not measure such distances."""
        return math.nan

    def remarks(self, metrics: Mapping[str, float], *, learner: Learner = LEARNER) -> Iterator[str]:
        floors = {name: metrics.get(f"{name}_floor", math.nan) for name in metrics}
        solved = learner.samples_by_steps and any(v for name, v in metrics.items() if name.startswith("nfe/"))
        if lost := [name for name, value in metrics.items() if math.isnan(value) and math.isfinite(floors[name])]:
            yield (
                f"{', '.join(lost)}: unknown, because some samples are not finite. "
                + (LEFT_BY_SOLVER if solved else "Train it longer, or with a smaller optimizer.lr.")
            )
        far, floor = metrics.get("test/sw2", math.nan), metrics.get("test/sw2_floor", math.nan)
        if far > floor and far > OFF * (spread := self.spread()) + floor:
            by_solver = FAR_BY_SOLVER if learner.learns else FAR_BY_LENGTH
            yield (
                f"samples are far from the data: test/sw2 is {far:.3g}, and {spread:.3g} of samples that are "
                f"all the mean of the data. {by_solver if solved else 'The model has not learned the data yet.'}"
            )

    def own_units(self, points: Tensor) -> Tensor:
        """Points in the units of the data; inputs may be a transform of these, such as standardised logarithms."""
        return points

    def sample_tables(self, drawn: Drawn) -> Iterator[tuple[str, Table]]:
        """Tables of samples under the conditions of `given`, by file name without ending."""
        del drawn
        yield from ()

    @abc.abstractmethod
    def sample_figures(self, drawn: Drawn) -> Iterator[tuple[str, Figure]]:
        """Pictures of samples under the conditions of `given`, by file name without ending."""


def asks_for_answers(task: type[Task]) -> bool:
    """Whether batches are passed to the model; not for a task that draws samples and needs nothing else."""
    return not issubclass(task, SampledTask) or not task.needs <= {Answer.SAMPLES, Answer.TOKENS}
