"""What a task is."""

import abc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from matplotlib.figure import Figure
from torch import Tensor

from ode_runner.types import Scalar, Times, Trajectory


class Split(StrEnum):
    """Parts of the data. The test split is touched once, at the end of a run."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


@dataclass(frozen=True, kw_only=True)
class TaskSpec:
    """What a network must know of a task before it can be built."""

    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]


class Batch(NamedTuple):
    """What one step learns from."""

    inputs: Tensor  # (batch, *input_shape)
    ts: Times  # the task owns time: output times of a trajectory, or [0, 1] for a classifier
    targets: Tensor


@dataclass(frozen=True, kw_only=True)
class Findings:
    """A trained model as a task's pictures need it."""

    history: Sequence[Mapping[str, float]]  # the rows of metrics.jsonl
    predict: Callable[[Tensor], Tensor]  # inputs to outputs
    flow: Callable[[Tensor, int], Trajectory]  # inputs and a number of times to the states along the way


class Task(abc.ABC):
    """Data, the loss to minimise, the numbers to report and the pictures to draw.

    Knows neither models nor solvers.
    """

    spec: TaskSpec
    objective: str  # the metric, higher is better, by which `best.pt` is chosen

    @abc.abstractmethod
    def size(self, split: Split) -> int:
        """Number of samples in the split."""

    @abc.abstractmethod
    def batches(self, split: Split, *, batch_size: int, epoch: int) -> Iterator[Batch]:
        """The split in batches, a pure function of seed and epoch; only the training split is shuffled."""

    @abc.abstractmethod
    def loss(self, outputs: Tensor, batch: Batch) -> Scalar:
        """What training minimises."""

    @abc.abstractmethod
    def metrics(self, outputs: Tensor, batch: Batch) -> dict[str, Scalar]:
        """Means over the batch, by name."""

    @abc.abstractmethod
    def figures(self, findings: Findings) -> Iterator[tuple[str, Figure]]:
        """Pictures of the result, by file name without ending."""
