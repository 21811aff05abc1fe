"""The reversible Heun method for Stratonovich equations."""

from dataclasses import dataclass, field
from typing import ClassVar, final

import torch
from torch import Tensor

from ode_runner.field import VectorField
from ode_runner.noise.brownian_path import Calculus
from ode_runner.problem import Solution
from ode_runner.solvers.reversible import Carried, ReversibleSolver
from ode_runner.solvers.stochastic import StochasticMethod, driving_noise
from ode_runner.solvers.stochastic_equation import StochasticEquation
from ode_runner.types import State, Times


@final
@dataclass(frozen=True, kw_only=True)
class ReversibleHeunSDE(ReversibleSolver, StochasticMethod):
    """Carries y, a second state z, and drift and diffusion at z, so that steps can be reversed along the same path.

    Strong order 1 with additive noise and, as measured, diagonal noise; 1/2 with general noise. One evaluation per step
    and one to begin.

    Kidger, Foster, Li, Lyons. Efficient and Accurate Gradients for Neural SDEs. NeurIPS 2021, Algorithm 1.
    """

    kind: ClassVar[str] = "of fixed step and reversible, for Stratonovich equations"
    fields_in_words: ClassVar[str] = "a stochastic field, whose noise may be of any kind if its drift is Stratonovich's"
    calculus: ClassVar[Calculus] = Calculus.STRATONOVICH
    looks_ahead: ClassVar[bool] = True
    packs: ClassVar[bool] = False
    instead: ClassVar[str] = "solver=heun_sde"
    order: int = field(default=1, init=False)

    def begin(self, field: VectorField, t0: float, y0: State) -> Carried:
        return y0, y0, *self._equation(field, t0, y0).both(t0, y0)

    def reversible_step(self, field: VectorField, t0: float, t1: float, carried: Carried) -> Carried:
        return self._step(field, t0, t1, carried)

    def reverse_step(self, field: VectorField, t0: float, t1: float, carried: Carried) -> Carried:
        return self._step(field, t1, t0, carried)

    def stride(self, field: VectorField, t0: float, t1: float, carried: Carried) -> tuple[Carried, Tensor | None]:
        y0, _, f0, _ = carried
        return self.reversible_step(field, t0, t1, carried), self.gain(field, t0, t1, y0, f0)

    def solve(self, field: VectorField, y0: State, ts: Times) -> Solution:
        return self.solve_noting_steps(field, y0, ts)[0]

    def solve_noting_steps(self, field: VectorField, y0: State, ts: Times) -> tuple[Solution, Carried]:
        self.check_direction(field, ts)
        driving_noise(field).prepare([step for grid in self.grids(ts) for step in self.strides(grid)], y0)
        return super().solve_noting_steps(field, y0, ts)

    def _step(self, field: VectorField, t0: float, t1: float, carried: Carried) -> Carried:
        """A step from t0 to t1 along the path, in either direction of time."""
        (y0, z0, f0, g0), dt, w = carried, t1 - t0, driving_noise(field).increment(t0, t1, carried[0]).w
        equation = self._equation(field, t0, y0)
        z1 = 2 * y0 - z0 + torch.add(equation.moved(g0, w), f0, alpha=dt)
        f1, g1 = equation.both(t1, z1)
        return y0 + (equation.moved(g0 + g1, w) + dt * (f0 + f1)) / 2, z1, f1, g1

    def _equation(self, field: VectorField, t0: float, y0: State) -> StochasticEquation:
        return StochasticEquation(field, self.calculus, t0, y0)
