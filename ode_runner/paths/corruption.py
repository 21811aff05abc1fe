"""Noise schedules of discrete diffusion: the probability that noise has replaced a token by time t."""

import abc
import math
from typing import Literal, final

import torch
from torch import Tensor

CorruptionName = Literal["linear", "cosine", "quadratic"]


class CorruptionSchedule(abc.ABC):
    """1 - a(t), where a(t) is the probability that a token is unchanged; 1 - a rises from 0 at t = 0 to 1 at t = 1.

    Tokens are replaced independently of each other. Times are tensors of any shape.
    """

    @abc.abstractmethod
    def corrupted(self, t: Tensor) -> Tensor:
        """1 - a(t), the probability that a token has been replaced by time t."""

    @abc.abstractmethod
    def corrupted_dot(self, t: Tensor) -> Tensor:
        """The derivative of `corrupted`, -a'(t)."""

    def pace(self, t: Tensor) -> Tensor:
        """-a' / (1 - a): the rate at which a replaced token is recovered in reverse time."""
        return self.corrupted_dot(t) / self.corrupted(t)

    def recovered(self, t: Tensor, u: Tensor) -> Tensor:
        """(a(u) - a(t)) / (1 - a(t)): the probability that a token that is replaced at t is unchanged at u < t."""
        return 1 - self.corrupted(u) / self.corrupted(t)


@final
class LinearCorruption(CorruptionSchedule):
    """1 - a = t."""

    def corrupted(self, t: Tensor) -> Tensor:
        return t

    def corrupted_dot(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)


@final
class CosineCorruption(CorruptionSchedule):
    """a = cos(pi t / 2)."""

    def corrupted(self, t: Tensor) -> Tensor:
        return 2 * torch.sin(math.pi / 4 * t).square()  # 1 - cos, without cancellation

    def corrupted_dot(self, t: Tensor) -> Tensor:
        return math.pi / 2 * torch.sin(math.pi / 2 * t)


@final
class QuadraticCorruption(CorruptionSchedule):
    """1 - a = t^2."""

    def corrupted(self, t: Tensor) -> Tensor:
        return t.square()

    def corrupted_dot(self, t: Tensor) -> Tensor:
        return 2 * t


def corruption_named(name: CorruptionName) -> CorruptionSchedule:
    """The schedule of this name."""
    schedules: dict[str, type[CorruptionSchedule]] = {
        "linear": LinearCorruption,
        "cosine": CosineCorruption,
        "quadratic": QuadraticCorruption,
    }
    return schedules[name]()
