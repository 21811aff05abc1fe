"""The asynchronous leapfrog integrator."""

from dataclasses import dataclass, field
from typing import final

from torch import Tensor

from ode_runner.field import VectorField
from ode_runner.solvers.reversible import Carried, ReversibleSolver
from ode_runner.solvers.tableau import time_tensor
from ode_runner.types import State


@final
@dataclass(frozen=True, kw_only=True)
class ALF(ReversibleSolver):
    """Order 2, one evaluation per step and one to begin; carries y and a velocity v, which starts as f(t0, y0).

    Mutze. An asynchronous leap-frog method II. arXiv 1311.6602, 2013. ·
    Zhuang, Dvornek, Tatikonda, Duncan. MALI: A memory efficient and reverse accurate integrator for Neural ODEs.
    ICLR 2021.
    """

    order: int = field(default=2, init=False)

    def begin(self, field: VectorField, t0: float, y0: State) -> Carried:
        return y0, field(time_tensor(t0, y0), y0)

    def reversible_step(self, field: VectorField, t0: float, t1: float, carried: Carried) -> Carried:
        (y0, v0), dt = carried, t1 - t0
        middle = y0 + dt / 2 * v0
        v1 = 2 * field(time_tensor(t0 + dt / 2, middle), middle) - v0
        return middle + dt / 2 * v1, v1

    def reverse_step(self, field: VectorField, t0: float, t1: float, carried: Carried) -> Carried:
        (y1, v1), dt = carried, t1 - t0
        middle = y1 - dt / 2 * v1
        v0 = 2 * field(time_tensor(t0 + dt / 2, middle), middle) - v1
        return middle - dt / 2 * v0, v0

    def distance(self, dt: float, before: Carried, after: Carried) -> Tensor:
        """The difference of the new state from a step with the old velocity; the velocity oscillates if it is large."""
        return dt / 2 * (after[1] - before[1])
