"""The interface of a task, and the view of a trained model from which a task makes its pictures."""

import abc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from ode_runner.batch import LEARNER, Answer, AnswerTimes, Batch, Drawn, Learner, Outputs, Split, TaskSpec
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
    """A trained model, as a task needs it for pictures and for metrics beyond those of batches."""

    history: Sequence[Mapping[str, float]]  # the rows of metrics.jsonl
    predict: Callable[[Tensor, Times | None], Tensor]  # inputs to output values at the times; None: the task's times
    answer: Callable[[Tensor, Times | None], Outputs]  # the same, with all other outputs of the model
    encode: Callable[[Tensor], Encoding]  # inputs to the initial state of a solve
    decode: Callable[[Encoding, Times], Tensor]  # initial state to output values at the times
    path: Callable[[Encoding, int], Trajectory]  # initial state to states along the solve, about as many as the number
    continuous: bool  # whether outputs at any times can be asked for, also before the first
    predict_finely: Callable[[Tensor], Tensor]  # inputs to output values, solved at 1e-5 in float64
    sample: Callable[[int, int, Sequence[Tensor]], Drawn] | None  # of a density: (samples, times, conditions)
    output_dir: Path  # folder of all outputs; holds what several runs share for their metrics
    end_time: float | None = None  # of path models: the end of sampling; the density is that of data noised to it
    guidance: float = 1.0  # of samples; log densities are those of the field without guidance
    tells: bool = True  # whether the model gives what the task needs with any solver, rather than only what suffices
    answers: bool = True  # whether the run's own solver gives outputs; if not, `predict` is `predict_finely`
    solves: bool = True  # whether the model solves; if not, its outputs are exact up to rounding
    finer: str = LEARNER.finer  # what makes the error of the run's own solver smaller
    animate: bool = False  # whether animations are asked for as well
    field: VectorField | None = None  # the model's field, if it is one on the task's own state space
    exact: bool = False  # whether `field` is the true one, so that nothing is learned

    @property
    def learned_field(self) -> VectorField | None:
        """The learned field; None if the model's field is the task's own."""
        return None if self.exact else self.field


@dataclass(frozen=True, kw_only=True)
class PerSampleCost:
    """The cost of each sample of the test split, in its order, for a solver that has separate steps for each sample."""

    evaluations: Tensor  # (samples,); a mean over the states of a sample, if it has several
    accepted: Tensor
    rejected: Tensor
    labels: Tensor | None  # (samples,): targets, if each is one number
    parts: list[str]  # the part of the test split to which each sample belongs

    def groups(self) -> dict[str, Tensor]:
        """Masks (samples,) of the samples of each class and of each part, if there are several."""
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

    needs: ClassVar[frozenset[Answer]] = frozenset({Answer.VALUES})  # the outputs that the loss needs
    gives_series: ClassVar[bool] = False  # True: inputs are rows of series (`controls.series`); outputs at the end
    gives_observations: ClassVar[bool] = False  # True: inputs are series read by a network; outputs are at any times
    mean_over_samples: ClassVar[bool] = False  # True: the loss is a mean over samples, even if some targets are unknown
    gives_images: ClassVar[bool] = False  # True: inputs are images (channels, height, width)
    gives_tokens: ClassVar[bool] = False  # True: inputs are tokens, integers below `spec.tokens`
    gives_points: ClassVar[bool] = False  # True: the state is a vector (dimensions,), without spatial positions
    has_true_field: ClassVar[bool] = False  # True: the task has a true field, at least with some of its options
    suffices: ClassVar[frozenset[Answer]] = frozenset()  # outputs that are accepted if `needs` cannot be had
    test_only: ClassVar[frozenset[str]] = frozenset()  # options that affect only the test split and pictures
    of_true_field: ClassVar[frozenset[str]] = frozenset()  # options used only by a model that solves the true field
    of_learning: ClassVar[frozenset[str]] = frozenset()  # options used only by a model that learns
    spec: TaskSpec
    objective: ClassVar[str]  # the metric by which `best.pt` is chosen
    higher_is_better: ClassVar[bool]  # of the objective

    @classmethod
    def contents(cls, options: Mapping[str, Any]) -> dict[str, str | None]:
        """The options that name files, each with a hash of the files' contents.

        The hash identifies a run instead of the option, since the same data may have another path, and a path other
        data. It is None if no file is there, or if the path is the same in every installation.
        """
        del options
        return {}

    @classmethod
    def answer_times(cls, options: Mapping[str, Any]) -> AnswerTimes:
        """The `spec.answer_times` of a task that `gives_series`, from its options alone, before it is built."""
        del options
        return AnswerTimes.END

    def check_data(self) -> None:  # noqa: B027  # most tasks have nothing to check
        """Raises RefusedInput if the data do not fit `spec`. Called once, when the task is built."""

    def unused_options(self) -> Mapping[str, str]:
        """The options that have no effect with the present values of the others, each with the reason as a clause."""
        return {}

    def rising_weights(self) -> Mapping[str, tuple[str, int]]:
        """By loss term: the option with the number of epochs in which its weight rises to 1, and that number."""
        return {}

    @abc.abstractmethod
    def size(self, split: Split) -> int:
        """The number of samples in the split."""

    @abc.abstractmethod
    def batches(self, split: Split, *, batch_size: int, epoch: int) -> Iterator[Batch]:
        """The batches of a split: a pure function of seed and epoch. Only the training split is shuffled."""

    @abc.abstractmethod
    def loss(self, outputs: Outputs, batch: Batch) -> Scalar:
        """The loss that training minimises."""

    def running_costs(self) -> Mapping[str, Integral]:
        """Running costs by name; their integrals along a model's solves are terms of the loss."""
        return {}

    @abc.abstractmethod
    def metrics(self, outputs: Outputs, batch: Batch) -> dict[str, Scalar]:
        """Metrics of a batch by name; each is a mean over the batch."""

    def counts(self, outputs: Outputs, batch: Batch) -> dict[str, int]:
        """The number of values that each metric, and the loss (`loss`), is a mean of; default: the number of samples.

        They weight the batches in the mean over a split, which then does not depend on the batch size.
        """
        del outputs, batch
        return {}

    def reported(self, means: Mapping[str, float]) -> dict[str, float]:
        """The numbers to report, from the means of `metrics` over a split; a subclass may take the root of a mean, say.

        For a whole split, `means` also holds those of the loss, which are reported in any case.
        """
        return dict(means)

    def field_metrics(self, field: VectorField) -> dict[str, float]:
        """Metrics of a learned field on the task's own state space, if the true field is known."""
        del field
        return {}

    def model_metrics(self, view: ModelView) -> dict[str, float]:
        """Metrics that need more from the model than its outputs for the test split, such as a finer solve."""
        del view
        return {}

    def coordinates(self) -> Sequence[str]:
        """Names of the components of an output, in LaTeX; empty if they have no names."""
        return ()

    def introduction(self) -> Iterator[str]:
        """A description of the data, printed line by line before training."""
        yield from ()

    def statistics(self) -> dict[str, Tensor]:
        """Statistics of the training data that a trained model depends on; they are saved with the weights."""
        return {}

    def use_statistics(self, found: Mapping[str, Tensor]) -> None:
        """Replace the task's own statistics by those of a trained model."""
        del found

    def measured_with(self, view: ModelView) -> dict[str, str]:
        """What each metric was measured with, by its name; values with different measuring tools are not comparable."""
        del view
        return {}

    def invalid(self, metrics: Mapping[str, float]) -> dict[str, str]:
        """By name, why a value is not what its name says: reports show it, and do not rank it.

        A reason continues the sentence `it ...`. The name `loss` is that of the task's own loss.
        """
        del metrics
        return {}

    def remarks(self, metrics: Mapping[str, float], *, learner: Learner = LEARNER) -> Iterator[str]:
        """Warnings about the metrics of a run, one sentence each."""
        del metrics, learner
        yield from ()

    def conclusion(self, view: ModelView) -> Iterator[str]:
        """The result in words, line by line: printed, and shown by the logger."""
        del view
        yield from ()

    def tables(self, view: ModelView) -> Iterator[tuple[str, Table]]:
        """Tables of the result, by file name without ending: csv files in the run folder."""
        del view
        yield from ()

    def figures_of_per_sample_cost(self, found: PerSampleCost) -> Iterator[tuple[str, Figure]]:
        """Pictures that show which test samples need many evaluations."""
        yield "difficulty", draw_evaluations(found.evaluations, found.groups())

    def figures(self, view: ModelView) -> Iterator[tuple[str, Picture]]:
        """Pictures of the result, by file name without ending; animations only if `view.animate`.

        The default is the training curves.
        """
        yield "curves", draw_curves(view.history)
