"""Runge-Kutta steps on a fixed grid."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from ode_runner.field import VectorField
from ode_runner.solvers.base import FixedStepSolver
from ode_runner.solvers.one_step import ExplicitOneStepSolver, OneStepSolver, Step
from ode_runner.types import State, Times


@dataclass(frozen=True, kw_only=True)
class FixedGridRungeKutta(OneStepSolver, FixedStepSolver):
    """Nothing is carried from step to step."""

    def steps(self, field: VectorField, y0: State, ts: Times) -> Iterator[Step]:
        for grid in self.grids(ts):
            for t0, t1 in pairwise(grid):
                y1, ks = self.step(field, t0, t1, y0, self.slope(field, t0, y0))
                yield Step(t0=t0, t1=t1, y0=y0, y1=y1, ks=ks, due=[t1] if t1 == grid[-1] else [])
                y0 = y1


@dataclass(frozen=True, kw_only=True)
class ExplicitRungeKutta(ExplicitOneStepSolver, FixedGridRungeKutta):
    """One step is `len(tableau.b)` evaluations."""
