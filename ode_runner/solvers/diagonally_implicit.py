"""Diagonally implicit Runge-Kutta steps, for stiff problems."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ode_runner.errors import SolverFailed
from ode_runner.field import VectorField
from ode_runner.solvers.embedded import AdaptiveRungeKutta
from ode_runner.solvers.implicit import ImplicitSolver
from ode_runner.solvers.newton import solve_stage
from ode_runner.solvers.one_step import Step
from ode_runner.solvers.runge_kutta import FixedGridRungeKutta
from ode_runner.solvers.tableau import advance, at, stage_time
from ode_runner.types import State, Times


@dataclass(frozen=True, kw_only=True)
class DiagonallyImplicit(ImplicitSolver):
    """Every stage but an explicit first one is an equation of its own; rows of the tableau end on the diagonal.

    A stage takes three evaluations where the field is linear.

    Hairer, Wanner. Solving Ordinary Differential Equations II. Springer 1996, IV.6.
    """

    def slope(self, field: VectorField, t0: float, y0: State) -> State:
        """f(t0, y0) where the first stage is explicit; an implicit one has no use for it."""
        return y0 if any(self.tableau.a[0]) else super().slope(field, t0, y0)

    def step(self, field: VectorField, t0: float, t1: float, y0: State, f0: State) -> tuple[State, list[Tensor]]:
        dt, ks, place = t1 - t0, list[Tensor](), y0
        for c, (*row, diagonal) in zip(self.tableau.c, self.tableau.a, strict=True):
            if not dt * diagonal:  # an explicit stage, or a step over no time
                ks.append(f0)
                continue
            known = advance(y0, dt, row, ks)
            place = solve_stage(field, at(stage_time(t0, t1, c), y0), known, dt * diagonal, guess=place)
            ks.append(
                (place - known) / (dt * diagonal)
            )  # f there, without another evaluation's rounding in stiff parts
        return advance(y0, dt, self.tableau.b, ks), ks


@dataclass(frozen=True, kw_only=True)
class FixedImplicit(DiagonallyImplicit, FixedGridRungeKutta):
    """On a fixed grid."""

    kind: ClassVar[str] = "of fixed step and implicit"

    def steps(self, field: VectorField, y0: State, ts: Times) -> Iterator[Step]:
        for step in super().steps(field, y0, ts):
            if not torch.isfinite(step.y1).all():
                raise SolverFailed(
                    f"{type(self).__name__} stopped at t={step.t0:.6g}: Newton's method found no solution of the step "
                    f"to t={step.t1:.6g}, or the field returned NaN or infinity. Take smaller steps."
                )
            yield step


@dataclass(frozen=True, kw_only=True)
class AdaptiveImplicit(DiagonallyImplicit, AdaptiveRungeKutta):
    """With step size control; a step whose equations Newton's method cannot solve is rejected.

    Dense output is the cubic through both ends and their slopes. The error estimate does not see how long a step is for
    that: where the solution matters between the steps, ask for a tighter tolerance.
    """

    kind: ClassVar[str] = "adaptive and implicit"
    suspicion: ClassVar[str] = "the solution has no bound, or the field is not smooth,"
