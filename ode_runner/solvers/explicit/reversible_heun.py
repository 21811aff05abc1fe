"""The reversible Heun method."""

from dataclasses import dataclass, field
from typing import final

from ode_runner.field import VectorField
from ode_runner.solvers.reversible import Carried, ReversibleSolver
from ode_runner.solvers.tableau import time_tensor
from ode_runner.types import State


@final
@dataclass(frozen=True, kw_only=True)
class ReversibleHeun(ReversibleSolver):
    """Order 2, one evaluation per step and one to begin; carries y, a second state z, and f(t, z).

    It is unstable for decaying solutions: on y' = -a y, y - z grows as exp(a t), however small the steps.

    Kidger, Foster, Li, Lyons. Efficient and Accurate Gradients for Neural SDEs. NeurIPS 2021, Algorithm 1.
    """

    order: int = field(default=2, init=False)

    def begin(self, field: VectorField, t0: float, y0: State) -> Carried:
        return y0, y0, field(time_tensor(t0, y0), y0)

    def reversible_step(self, field: VectorField, t0: float, t1: float, carried: Carried) -> Carried:
        (y0, z0, f0), dt = carried, t1 - t0
        z1 = 2 * y0 - z0 + dt * f0
        f1 = field(time_tensor(t1, z1), z1)
        return y0 + dt / 2 * (f0 + f1), z1, f1

    def reverse_step(self, field: VectorField, t0: float, t1: float, carried: Carried) -> Carried:
        (y1, z1, f1), dt = carried, t1 - t0
        z0 = 2 * y1 - z1 - dt * f1
        f0 = field(time_tensor(t0, z0), z0)
        return y1 - dt / 2 * (f0 + f1), z0, f0
