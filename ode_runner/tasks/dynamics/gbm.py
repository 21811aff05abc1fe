"""Geometric Brownian motion, whose paths are known in closed form."""

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from ode_runner.errors import RefusedInput
from ode_runner.field import StochasticField
from ode_runner.noise.brownian_path import Increment
from ode_runner.tasks.dynamics.stochastic_paths import StochasticPaths
from ode_runner.types import State, Time


@final
@dataclass(kw_only=True, eq=False)
class GeometricBrownianMotion(StochasticPaths):
    """dx = mu x dt + sigma x dW in Ito's calculus: x(t) = x0 exp((mu - sigma^2 / 2) t + sigma W(t)), mean x0 e^(mu t).

    The orders of strong errors are visible only if sigma is not much smaller than mu: otherwise the order of the drift
    hides them.

    Kloeden, Platen. Numerical Solution of Stochastic Differential Equations. Springer 1992, 4.4 and 9.3.
    """

    mu: float
    sigma: float

    names: ClassVar[tuple[str, ...]] = ("x",)

    def true_field(self) -> StochasticField:
        return GeometricField(self.mu, self.sigma)

    def follow(self, y: State, t0: float, t1: float, noise: Increment) -> State:
        return y * ((self.mu - self.sigma**2 / 2) * (t1 - t0) + self.sigma * noise.w).exp()

    def _check(self) -> None:
        super()._check()
        if not self.sigma > 0:
            raise RefusedInput(f"task.sigma must be positive, not {self.sigma}.")


@final
class GeometricField(StochasticField):
    """Geometric Brownian motion: the drift mu x and the diffusion sigma x."""

    batched_time = True

    def __init__(self, mu: float, sigma: float) -> None:
        super().__init__()
        self.mu, self.sigma = mu, sigma

    def drift(self, t: Time, y: State) -> State:
        return self.mu * y

    def diffusion(self, t: Time, y: State) -> Tensor:
        return self.sigma * y
