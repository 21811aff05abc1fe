"""One-step methods of low order on a fixed grid, whose steps have no dense output."""

import abc
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from ode_runner.field import VectorField
from ode_runner.solvers import quadrature
from ode_runner.solvers.base import FixedStepSolver
from ode_runner.solvers.one_step import AcceptedStep, Step, StepwiseSolver
from ode_runner.solvers.quadrature import Node
from ode_runner.types import State, Times


@dataclass(frozen=True, kw_only=True)
class GridStepSolver(FixedStepSolver, StepwiseSolver):
    """A method of order 2 at most, whose steps end on every output time.

    Integrals use the midpoint rule along the chord of a step, with the slope of the chord as dy/dt. This is of order 2
    and costs no evaluation.
    """

    @abc.abstractmethod
    def step(self, field: VectorField, t0: float, t1: float, y0: State) -> State:
        """y(t1) by one step from (t0, y0)."""

    def steps(self, field: VectorField, y0: State, ts: Times) -> Iterator[Step]:
        for grid in self.grids(ts):
            for t0, t1 in pairwise(grid):
                interval = AcceptedStep(t0=t0, t1=t1, due=[t1] if t1 == grid[-1] else [])
                step = self.recompute(field, interval, y0)
                yield step
                y0 = step.y1

    def recompute(self, field: VectorField, interval: AcceptedStep, y0: State) -> Step:
        y1 = self.step(field, interval.t0, interval.t1, y0)
        return Step(t0=interval.t0, t1=interval.t1, due=interval.due, y0=y0, y1=y1, ks=[])

    def outputs(self, step: Step) -> list[State]:
        return [step.y1 for _ in step.due]

    def check_integrals(self) -> None:
        """Accepted: integrals are taken along the chord of a step."""

    def gains(self, field: VectorField, step: Step) -> list[Tensor]:
        if quadrature.counted(field) is None:
            return []
        dt, gain = step.t1 - step.t0, quadrature.begin(field, step.y0)
        if dt:
            middle = Node((step.t0 + step.t1) / 2, (step.y0 + step.y1) / 2, (step.y1 - step.y0) / dt)
            [gain] = quadrature.gains(field, [middle], dt, [[1.0]])
        return [gain for _ in (step.t1, *step.due)]
