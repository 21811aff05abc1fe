"""Learning rates over the course of a run: the `schedule` group."""

import abc
import math
from dataclasses import dataclass
from typing import final

from ode_runner.errors import RefusedInput


class Schedule(abc.ABC):
    """The learning rate as a fraction of `optimizer.lr`, at every step of training."""

    @abc.abstractmethod
    def factor(self, epoch: float, epochs: int) -> float:
        """The fraction at a time counted in epochs, not necessarily whole, of a run of `epochs`."""


@final
class Constant(Schedule):
    """The same learning rate throughout."""

    def factor(self, epoch: float, epochs: int) -> float:
        del epoch, epochs
        return 1.0


@final
@dataclass(frozen=True, kw_only=True)
class Steps(Schedule):
    """Times `gamma` at each of the epochs `milestones`."""

    milestones: list[int]
    gamma: float

    def __post_init__(self) -> None:
        if self.gamma <= 0:
            raise RefusedInput(f"schedule.gamma must be positive, not {self.gamma}.")

    def factor(self, epoch: float, epochs: int) -> float:
        del epochs
        return self.gamma ** sum(epoch >= milestone for milestone in self.milestones)


@final
@dataclass(frozen=True, kw_only=True)
class Cosine(Schedule):
    """Up linearly over the first `warmup` of the run, a fraction, then down half a cosine to zero."""

    warmup: float

    def __post_init__(self) -> None:
        if not 0 <= self.warmup < 1:
            raise RefusedInput(f"schedule.warmup must be a fraction from 0 to below 1, not {self.warmup}.")

    def factor(self, epoch: float, epochs: int) -> float:
        progress = min(1.0, epoch / epochs)
        if progress < self.warmup:
            return progress / self.warmup
        return (1 + math.cos(math.pi * (progress - self.warmup) / (1 - self.warmup))) / 2
