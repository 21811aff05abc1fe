"""What the tasks share that judge samples of a model."""

import abc
import math
from collections.abc import Iterator, Mapping
from typing import ClassVar

import torch
from torch import Tensor

from ode_runner.batch import Answer, Drawn
from ode_runner.plots.figure_types import Figure
from ode_runner.tasks.base import ModelView, Table, Task

OFF = 0.25  # of the data's spread, beyond chance, from which on samples are told to be far; trained models have 0.1
LEFT_BY_SOLVER = "The solver leaves all bounds on their way. Use more steps, or another solver."
FAR_BY_SOLVER = (
    "Either the solver's steps are too long, or the model has not learned the data: ode-run evaluate=FOLDER with twice "
    "as many steps tells which."
)


class SampledTask(Task):
    """A task whose models can be asked for samples of its data, under conditions where there are any."""

    drawn_times: ClassVar[int] = 2  # on the way of samples, at which their pictures want them
    finely_solved: ClassVar[int | None] = None  # so many samples are compared with those of a fine solve; None: all

    @abc.abstractmethod
    def sampled_conditions(self) -> Tensor:
        """The conditions of the samples by which a model is judged, (sample, condition), which may have no column."""

    def given(self, count: int) -> list[Tensor]:
        """What is given for so many samples: those conditions, again from the first on where they do not suffice."""
        conditions = self.sampled_conditions()
        return [conditions[torch.arange(count) % len(conditions)]] if self.spec.condition else []

    def drawn(self, view: ModelView, *, times: int = 2) -> Drawn:
        """The samples by which a model is judged, at so many times on their way; asked of a view that samples."""
        assert view.sample is not None
        count = len(self.sampled_conditions())
        return view.sample(count, times, self.given(count))

    def spread(self) -> float:
        """What `sw2` would be of samples that are all the mean of the data; NaN where there are no such distances."""
        return math.nan

    def remarks(self, metrics: Mapping[str, float]) -> Iterator[str]:
        floors = {name: metrics.get(f"{name}_floor", math.nan) for name in metrics}
        solved = any(value for name, value in metrics.items() if name.startswith("nfe/"))
        if lost := [name for name, value in metrics.items() if math.isnan(value) and math.isfinite(floors[name])]:
            yield (
                f"{', '.join(lost)}: not known, for some samples are not finite. "
                + (LEFT_BY_SOLVER if solved else "Train it longer, or with a smaller optimizer.lr.")
            )
        far, floor = metrics.get("test/sw2", math.nan), metrics.get("test/sw2_floor", math.nan)
        if far > floor and far > OFF * (spread := self.spread()) + floor:
            yield (
                f"samples are far from the data: test/sw2 is {far:.3g}, and {spread:.3g} of samples that are "
                f"all the mean of the data. {FAR_BY_SOLVER if solved else 'The model has not learned the data yet.'}"
            )

    def own_units(self, points: Tensor) -> Tensor:
        """Data in their own units, of which inputs may be a map, such as their logarithms in units of the spread."""
        return points

    def sample_tables(self, drawn: Drawn) -> Iterator[tuple[str, Table]]:
        """Tables of samples under the conditions of `given`, by file name without ending."""
        del drawn
        yield from ()

    @abc.abstractmethod
    def sample_figures(self, drawn: Drawn) -> Iterator[tuple[str, Figure]]:
        """Pictures of samples under the conditions of `given`, by file name without ending."""


def asks_for_answers(task: type[Task]) -> bool:
    """Whether batches are put to the model for answers: not where a task draws samples, and needs nothing else."""
    return not issubclass(task, SampledTask) or not task.needs <= {Answer.SAMPLES, Answer.TOKENS}
