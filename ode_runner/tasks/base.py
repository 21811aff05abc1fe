"""What a task is."""

import abc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from ode_runner.batch import Answer, AnswerTimes, Batch, Drawn, Outputs, Split, TaskSpec
from ode_runner.encoding import Encoding
from ode_runner.field import VectorField
from ode_runner.integral import Integral
from ode_runner.plots.animation import Picture
from ode_runner.plots.curves import draw_curves
from ode_runner.plots.difficulty import draw_evaluations
from ode_runner.plots.figure_types import Figure
from ode_runner.types import Scalar, Times, Trajectory


@dataclass(frozen=True, kw_only=True)
class ModelView:
    """A trained model as a task's pictures need it."""

    history: Sequence[Mapping[str, float]]  # the rows of metrics.jsonl
    predict: Callable[[Tensor, Times | None], Tensor]  # inputs to output values at the times, None: the task's own
    answer: Callable[[Tensor, Times | None], Outputs]  # the same with all else that the model answers
    encode: Callable[[Tensor], Encoding]  # inputs to where a solve begins
    decode: Callable[[Encoding, Times], Tensor]  # from there to output values at the times
    path: Callable[[Encoding, int], Trajectory]  # from there to about as many states along the way as the number
    continuous: bool  # whether any times may be asked for, before the first one too
    predict_finely: Callable[[Tensor], Tensor]  # inputs to output values by a solve at 1e-5 in float64
    sample: Callable[[int, int, Sequence[Tensor]], Drawn] | None  # of a density: so many, at so many times, given
    output_dir: Path  # the folder of all outputs, in which is kept what the numbers of several runs are measured with
    end_time: float | None = None  # of a path: where the model's density begins, after so much noise
    tells: bool = True  # whether the model gives what the task needs, by any solver, and not what will do in its place
    answers: bool = True  # whether the run's own solver answers; if not, `predict` is `predict_finely`
    animate: bool = False  # whether pictures that move are wanted, too
    field: VectorField | None = None  # that of the model, if it is one on the task's own state space
    exact: bool = False  # whether that is the task's own, so that nothing is learned

    @property
    def learned_field(self) -> VectorField | None:
        """The field of a model that has learned it; None where it is the task's own."""
        return None if self.exact else self.field


@dataclass(frozen=True, kw_only=True)
class PerSampleCost:
    """What each sample of the test split took of a solver that steps them one by one, in the order of the split."""

    evaluations: Tensor  # (samples,); means over the states of a sample, where it has several
    accepted: Tensor
    rejected: Tensor
    labels: Tensor | None  # (samples,): targets, where each is one number
    parts: list[str]  # which of several questions each sample belongs to

    def groups(self) -> dict[str, Tensor]:
        """Masks (samples,) of the samples of each class and of each part, where there are several."""
        found = {name: torch.tensor([part == name for part in self.parts]) for name in dict.fromkeys(self.parts)}
        if self.labels is not None and not self.labels.is_floating_point():
            found |= {f"class {label}": self.labels == label for label in self.labels.unique().tolist()}
        return {name: chosen for name, chosen in found.items() if name}


class Table(NamedTuple):
    """Numbers and names in rows."""

    header: Sequence[str]
    rows: Sequence[Sequence[object]]


class Task(abc.ABC):
    """Data, the loss to minimise, the numbers to report and the pictures to draw.

    Knows neither models nor solvers.
    """

    needs: ClassVar[frozenset[Answer]] = frozenset({Answer.VALUES})  # of a model's answers
    gives_series: ClassVar[bool] = False  # True: inputs are rows of series (`controls.series`), answered at their end
    gives_observations: ClassVar[bool] = False  # True: the same for a network to read, and the answer is at any time
    mean_over_samples: ClassVar[bool] = False  # True: the loss is one, also where not all of them is observed
    gives_images: ClassVar[bool] = False  # True: inputs are images (channels, height, width)
    gives_tokens: ClassVar[bool] = False  # True: inputs are tokens, whole numbers below `spec.tokens`
    gives_points: ClassVar[bool] = False  # True: a value is asked of a vector (dimensions,), which has no positions
    of_known_law: ClassVar[bool] = False  # True: there is a true field, or is one with some options
    suffices: ClassVar[frozenset[Answer]] = frozenset()  # what will do in its place, if anything does
    test_only: ClassVar[frozenset[str]] = frozenset()  # options that decide nothing but the test split and pictures
    of_true_field: ClassVar[frozenset[str]] = frozenset()  # options for a model that solves the true field, alone
    of_learning: ClassVar[frozenset[str]] = frozenset()  # options for a model that learns, alone
    spec: TaskSpec
    objective: ClassVar[str]  # the metric by which `best.pt` is chosen
    higher_is_better: ClassVar[bool]  # of the objective

    @classmethod
    def contents(cls, options: Mapping[str, Any]) -> dict[str, str | None]:
        """The options that say where files are, each with a hash of what the files hold.

        The hash identifies a run in the option's place: the same data may lie elsewhere, and others in the same place.
        None where nothing lies, or what has this place in every installation.
        """
        del options
        return {}

    @classmethod
    def answer_times(cls, options: Mapping[str, Any]) -> AnswerTimes:
        """When a task that `gives_series` asks about one, with these options: `spec.answer_times` before it is made."""
        del options
        return AnswerTimes.END

    def idle_options(self) -> Mapping[str, str]:
        """The options that nothing reads beside the others as they are, each with the reason, in a clause."""
        return {}

    def rising_weights(self) -> Mapping[str, tuple[str, int]]:
        """By term of the training loss: the option that says in how many epochs its weight rises to 1, and these."""
        return {}

    @abc.abstractmethod
    def size(self, split: Split) -> int:
        """The number of samples in the split."""

    @abc.abstractmethod
    def batches(self, split: Split, *, batch_size: int, epoch: int) -> Iterator[Batch]:
        """The split in batches, a pure function of seed and epoch; only the training split is shuffled."""

    @abc.abstractmethod
    def loss(self, outputs: Outputs, batch: Batch) -> Scalar:
        """What training minimises."""

    def running_costs(self) -> Mapping[str, Integral]:
        """Costs along the way, by name: their integrals over a model's solves are terms of the loss."""
        return {}

    @abc.abstractmethod
    def metrics(self, outputs: Outputs, batch: Batch) -> dict[str, Scalar]:
        """Metrics of a batch by name, as means over it."""

    def counts(self, outputs: Outputs, batch: Batch) -> dict[str, int]:
        """How many numbers the loss, by the name `loss`, and metrics are means of; those left out: one for each sample.

        So many times a batch counts in the mean over a split, which then is the same whatever the size of its batches.
        """
        del outputs, batch
        return {}

    def reported(self, means: Mapping[str, float]) -> dict[str, float]:
        """The numbers to report, from the means of `metrics` over a split: a root of a mean, say.

        Of a whole split the means of the loss are among them, and are reported in any case.
        """
        return dict(means)

    def field_metrics(self, field: VectorField) -> dict[str, float]:
        """Numbers about a learned field on the task's own state space, where the true one is known."""
        del field
        return {}

    def model_metrics(self, view: ModelView) -> dict[str, float]:
        """Numbers that take more of the model than its answers to the test split, as those of a finer solve do."""
        del view
        return {}

    def coordinates(self) -> Sequence[str]:
        """Names of the numbers of an answer, as LaTeX; none where they have no names."""
        return ()

    def introduction(self) -> Iterator[str]:
        """What a person should see of the data before anything is trained, a line each."""
        yield from ()

    def statistics(self) -> dict[str, Tensor]:
        """What the task has taken from its training data and a trained model relies on: kept with the weights."""
        return {}

    def use_statistics(self, found: Mapping[str, Tensor]) -> None:
        """Take those of a trained model in place of the task's own."""
        del found

    def measured_with(self, view: ModelView) -> dict[str, str]:
        """What metrics were measured with, by name; numbers measured with different things are not comparable."""
        del view
        return {}

    def remarks(self, metrics: Mapping[str, float]) -> Iterator[str]:
        """What a person should not overlook in the numbers of a run, a sentence each."""
        del metrics
        yield from ()

    def conclusion(self, view: ModelView) -> Iterator[str]:
        """What a person should see of the result in words, a line each: printed, and shown by the logger."""
        del view
        yield from ()

    def tables(self, view: ModelView) -> Iterator[tuple[str, Table]]:
        """Tables of the result, by file name without ending: csv files in the run folder."""
        del view
        yield from ()

    def figures_of_per_sample_cost(self, found: PerSampleCost) -> Iterator[tuple[str, Figure]]:
        """Pictures of which test samples take a solver many evaluations."""
        yield "difficulty", draw_evaluations(found.evaluations, found.groups())

    def figures(self, view: ModelView) -> Iterator[tuple[str, Picture]]:
        """Pictures of the result, by file name without ending; those that move only where `view.animate` asks for them.

        Unless overridden, the curves of training.
        """
        yield "curves", draw_curves(view.history)
