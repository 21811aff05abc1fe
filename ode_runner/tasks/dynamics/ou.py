"""The Ornstein-Uhlenbeck process, whose distribution is normal at every time."""

import math
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from ode_runner.errors import RefusedInput
from ode_runner.field import StochasticField
from ode_runner.noise.brownian_path import Increment, NoiseKind
from ode_runner.tasks.dynamics.stochastic_paths import StochasticPaths
from ode_runner.types import State, Time


@final
@dataclass(kw_only=True, eq=False)
class OrnsteinUhlenbeck(StochasticPaths):
    """dx = -theta x dt + sigma dW: mean x0 e^(-theta t), variance sigma^2 / (2 theta) (1 - e^(-2 theta t)).

    The stationary variance of Euler's method with step size h is exactly sigma^2 / (2 theta - theta^2 h).

    Kloeden, Platen. Numerical Solution of Stochastic Differential Equations. Springer 1992, 4.4.
    """

    theta: float
    sigma: float

    names: ClassVar[tuple[str, ...]] = ("x",)

    def true_field(self) -> StochasticField:
        return RelaxingField(self.theta, self.sigma)

    def follow(self, y: State, t0: float, t1: float, noise: Increment) -> State:
        """The state at t1. The integral of e^(-theta (t1 - s)) dW(s), from increment and area, is off by h^(5/2)."""
        k = self.theta * (t1 - t0)
        of_w = -math.expm1(-k) / k
        return math.exp(-k) * y + self.sigma * (of_w * noise.w + _weight_of_area(k) * noise.h)

    def _check(self) -> None:
        super()._check()
        if not (self.theta > 0 and self.sigma > 0):
            raise RefusedInput(f"task.theta={self.theta} and task.sigma={self.sigma} must be positive.")


def _weight_of_area(k: float) -> float:
    """12 ((1 - e^-k (1 + k)) / k^2 - (1 - e^-k) / (2 k)); by its series for small k, since its terms cancel."""
    if k > 1:
        return 12 * ((1 - math.exp(-k) * (1 + k)) / k**2 + math.expm1(-k) / (2 * k))
    return 6 * sum((-k) ** n * n / math.factorial(n + 2) for n in range(1, 20))


@final
class RelaxingField(StochasticField):
    """The Ornstein-Uhlenbeck process: the drift -theta x and the diffusion sigma."""

    noise_kind = NoiseKind.ADDITIVE
    batched_time = True

    def __init__(self, theta: float, sigma: float) -> None:
        super().__init__()
        self.theta, self.sigma = theta, sigma

    def drift(self, t: Time, y: State) -> State:
        return -self.theta * y

    def diffusion(self, t: Time, y: State) -> Tensor:
        return torch.full_like(y, self.sigma)
