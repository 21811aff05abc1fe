"""Lorenz's equations with multiplicative noise."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from ode_runner.errors import RefusedInput, as_typed
from ode_runner.field import StochasticField
from ode_runner.noise.brownian_path import Increment
from ode_runner.tasks.dynamics.stochastic_paths import StochasticPaths
from ode_runner.types import State, Time


@final
@dataclass(kw_only=True, eq=False)
class LorenzSDE(StochasticPaths):
    """dx = 10 (y - x) dt + s_1 x dW_1, and so on, in Ito's calculus, in units of `scale`.

    No path is known in closed form. The reference path takes `fine` steps per unit of time; at the default its error is
    about 0.001.

    Li, Wong, Chen, Duvenaud. Scalable Gradients for Stochastic Differential Equations. AISTATS 2020, section 7.2.
    """

    sigma: Sequence[float]  # noise of each coordinate, relative to its value
    scale: float  # divisor of the coordinates, which makes them of order 1

    names: ClassVar[tuple[str, ...]] = ("x", "y", "z")

    def true_field(self) -> StochasticField:
        return NoisyLorenz([float(s) for s in self.sigma], self.scale)

    def follow(self, y: State, t0: float, t1: float, noise: Increment) -> State:
        """A step in the coordinates of the noise's own flow, which has a closed form: an ODE remains in them.

        Within the step, the noise is the parabola with the same increment and area; the remainder is independent of
        both.
        """
        dt, sigma, field, t = t1 - t0, y.new_tensor(list(self.sigma)), self.true_field(), y.new_zeros(())

        def grown(part: float) -> Tensor:
            w = part * noise.w + 6 * part * (1 - part) * noise.h
            return (sigma * w - sigma.square() / 2 * part * dt).exp()

        return grown(1.0) * _runge_kutta_4(lambda part, z: field.drift(t, grown(part) * z) / grown(part), y, dt)

    def _check(self) -> None:
        super()._check()
        if len(self.sigma) != 3 or any(not s > 0 for s in self.sigma):
            raise RefusedInput(f"task.sigma={as_typed(list(self.sigma))} must be three positive numbers.")
        if not self.scale > 0:
            raise RefusedInput(f"task.scale must be positive, not {self.scale}.")


@final
class NoisyLorenz(StochasticField):
    """Lorenz's equations as drift, with a diffusion proportional to the state."""

    batched_time = True

    def __init__(self, sigma: list[float], scale: float) -> None:
        super().__init__()
        self.sigma, self.scale = sigma, scale

    def drift(self, t: Time, y: State) -> State:
        u, v, w = (self.scale * y).unbind(dim=1)
        return torch.stack([10 * (v - u), u * (28 - w) - v, u * v - 8 / 3 * w], dim=1) / self.scale

    def diffusion(self, t: Time, y: State) -> Tensor:
        return y.new_tensor(self.sigma) * y


def _runge_kutta_4(slope: Callable[[float, State], State], z: State, dt: float) -> State:
    """A step of length `dt`; `slope` takes the fraction of the step. Written out here, as tasks know no solvers."""
    k1 = slope(0.0, z)
    k2 = slope(0.5, z + dt / 2 * k1)
    k3 = slope(0.5, z + dt / 2 * k2)
    return z + dt / 6 * (k1 + 2 * k2 + 2 * k3 + slope(1.0, z + dt * k3))
