"""The group of processes that make a training step together, each with its share of the batch."""

import abc
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, final

from torch import Tensor

from ode_runner.batch import Batch


class ProcessGroup(abc.ABC):
    """The group, as seen by one of its processes. All processes call the methods in the same order."""

    size: int  # number of processes

    @contextmanager
    def training(self, state: Mapping[str, Any]) -> Iterator[None]:
        """Context of the training steps; workers start with the trainer's `state`."""
        del state
        yield

    @abc.abstractmethod
    def share(self, batch: Batch, *, epoch: int, place: int) -> Batch:
        """This process's share of the batch, which is number `place` of the epoch."""

    @abc.abstractmethod
    def average_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replaces each parameter's `.grad` by the gradient of the mean loss over the whole batch."""

    @abc.abstractmethod
    def mean(self, scalars: Mapping[str, float]) -> dict[str, float]:
        """Means over the whole batch, from means over this process's share."""


@final
class SingleProcess(ProcessGroup):
    """A group of one process."""

    size = 1

    def share(self, batch: Batch, *, epoch: int, place: int) -> Batch:
        del epoch, place
        return batch

    def average_gradients(self, parameters: Iterable[Tensor]) -> None:
        del parameters

    def mean(self, scalars: Mapping[str, float]) -> dict[str, float]:
        return dict(scalars)
