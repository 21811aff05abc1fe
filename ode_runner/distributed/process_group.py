"""The processes that make a training step together, each from its share of the batch."""

import abc
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, final

from torch import Tensor

from ode_runner.batch import Batch


class ProcessGroup(abc.ABC):
    """The group as one of its processes sees it; all processes call the methods, in the same order."""

    size: int  # processes

    @contextmanager
    def training(self, state: Mapping[str, Any]) -> Iterator[None]:
        """Around the training steps; workers begin with the trainer's `state`."""
        del state
        yield

    @abc.abstractmethod
    def share(self, batch: Batch, *, epoch: int, place: int) -> Batch:
        """This process's part of the batch with the number `place` in the epoch."""

    @abc.abstractmethod
    def average_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace each parameter's `.grad` by that of the mean loss over the whole batch."""

    @abc.abstractmethod
    def mean(self, scalars: Mapping[str, float]) -> dict[str, float]:
        """Means over the whole batch, from the means over this process's share."""


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
