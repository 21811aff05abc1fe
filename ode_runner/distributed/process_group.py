"""Who makes a training step together: one process, or several that each take a share of the batch."""

import abc
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, final

from torch import Tensor

from ode_runner.batch import Batch


class ProcessGroup(abc.ABC):
    """As one process of it sees the whole; every method is called by all of them, in the same order."""

    size: int

    @contextmanager
    def at_work(self, state: Mapping[str, Any]) -> Iterator[None]:
        """While steps are made, from the trainer's `state` on."""
        del state
        yield

    @abc.abstractmethod
    def share(self, batch: Batch, *, epoch: int, place: int) -> Batch:
        """This process's part of the batch at `place` within the epoch."""

    @abc.abstractmethod
    def average_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Make every gradient that of the mean loss over the whole batch."""

    @abc.abstractmethod
    def mean(self, scalars: Mapping[str, float]) -> dict[str, float]:
        """Over the whole batch, from the means over this process's share."""


@final
class SingleProcess(ProcessGroup):
    """One process does it all."""

    size = 1

    def share(self, batch: Batch, *, epoch: int, place: int) -> Batch:
        del epoch, place
        return batch

    def average_gradients(self, parameters: Iterable[Tensor]) -> None:
        del parameters

    def mean(self, scalars: Mapping[str, float]) -> dict[str, float]:
        return dict(scalars)
