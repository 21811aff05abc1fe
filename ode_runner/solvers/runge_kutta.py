"""Explicit Runge-Kutta steps on a fixed grid."""

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from ode_runner.field import VectorField
from ode_runner.solvers.base import FixedStepSolver, Solution
from ode_runner.solvers.tableau import Tableau, advance, stage_time
from ode_runner.types import State, Times


@dataclass(frozen=True, kw_only=True)
class ExplicitRungeKutta(FixedStepSolver):
    """One step is `len(tableau.b)` evaluations; nothing is carried from step to step.

    Hairer, Norsett, Wanner. Solving Ordinary Differential Equations I. Springer 1993, II.1.
    """

    tableau: ClassVar[Tableau]

    def solve(self, field: VectorField, y0: State, ts: Times) -> Solution:
        ys, steps = [y0], 0
        for grid in self.grids(ts):
            y = ys[-1]
            for t0, t1 in pairwise(grid):
                y = self.step(field, t0, t1, y)
            ys.append(y)
            steps += len(grid) - 1
        return Solution(ys=torch.stack(ys), accepted=steps)

    def step(self, field: VectorField, t0: float, t1: float, y0: State) -> State:
        """y(t1) from y(t0)."""
        dt = t1 - t0
        ks: list[Tensor] = []
        for c, row in zip(self.tableau.c, self.tableau.a, strict=True):
            t = torch.full((), stage_time(t0, t1, c), dtype=y0.dtype, device=y0.device)
            ks.append(field(t, advance(y0, dt, row, ks)))
        return advance(y0, dt, self.tableau.b, ks)
