"""Diagonally implicit Runge-Kutta steps, for stiff problems."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ode_runner.errors import SolverFailed
from ode_runner.field import VectorField
from ode_runner.solvers.implicit.implicit import AdaptiveImplicitSolver, Begin, ImplicitSolver
from ode_runner.solvers.implicit.newton import Equations, Newton, StageTolerance
from ode_runner.solvers.one_step import Step
from ode_runner.solvers.runge_kutta import FixedGridSolver
from ode_runner.solvers.tableau import advance, stage_time, time_tensor
from ode_runner.types import State, Time, Times


@dataclass(frozen=True, kw_only=True)
class DiagonallyImplicit(ImplicitSolver):
    """Each stage is an equation for itself alone, except an explicit first one; the tableau is lower triangular.

    Stages and steps share a Jacobian as long as Newton's method converges with it.

    Hairer, Wanner. Solving Ordinary Differential Equations II. Springer 1996, IV.6.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "tableau" in vars(cls) and cls.step is DiagonallyImplicit.step:  # other steps may read other rows
            cls.tableau.check_rows(own=True)

    def slope(self, field: VectorField, t0: float, y0: State) -> State:
        """f(t0, y0) if the first stage is explicit; an implicit one does not need it."""
        return y0 if any(self.tableau.a[0]) else super().slope(field, t0, y0)

    def step(self, field: VectorField, t0: float, t1: float, y0: State, f0: State) -> tuple[State, list[Tensor]]:
        dt, ks, place = t1 - t0, list[Tensor](), y0
        newton = self.newton(field)
        for c, (*row, diagonal) in zip(self.tableau.c, self.tableau.a, strict=True):
            if not dt * diagonal:  # an explicit stage, or a step of length 0
                ks.append(f0)
                continue
            known = advance(y0, dt, row, ks)
            t = time_tensor(stage_time(t0, t1, c), y0)
            place = self.stage(newton, t, known, dt * diagonal, guess=place, begin=Begin(t0, y0, f0))
            ks.append(
                (place - known) / (dt * diagonal)
            )  # f there, without another evaluation's rounding in stiff parts
        return advance(y0, dt, self.tableau.b, ks), ks

    def stage(self, newton: Newton, t: Time, known: State, weight: float, *, guess: State, begin: Begin) -> State:
        """The solution y of y = known + weight * f(t, y), or NaN."""
        equation = Equations(ts=[t], known=known[None], weights=((weight,),))
        return self.stages(newton, equation, guess[None], begin=begin)[0]


@dataclass(frozen=True, kw_only=True)
class FixedImplicit(DiagonallyImplicit, FixedGridSolver):
    """A diagonally implicit method with fixed steps, whose stages are solved to rounding."""

    kind: ClassVar[str] = "of fixed step and implicit"

    def steps(self, field: VectorField, y0: State, ts: Times) -> Iterator[Step]:
        for step in super().steps(self.newton(field), y0, ts):
            if not torch.isfinite(step.y1).all():
                raise SolverFailed(
                    f"{self.shown_name} stopped at t={step.t0:.6g}: Newton's method found no solution of the step "
                    f"to t={step.t1:.6g}, or the field returned NaN or infinity. Take smaller steps."
                )
            yield step

    def _solution(self, newton: Newton, equations: Equations, guess: Tensor, begin: Begin, *, recorded: bool) -> Tensor:
        del recorded
        place = (time_tensor(begin.t0, begin.y0), begin.y0.detach())
        return newton.solve(equations, guess, begin=place, tolerance=StageTolerance.rounding(begin.y0))

    def _has_gradient(self, field: VectorField, begin: Begin, known: Tensor) -> bool:
        return True  # for an implicit stage, this is only known after its evaluation


@dataclass(frozen=True, kw_only=True)
class AdaptiveImplicit(DiagonallyImplicit, AdaptiveImplicitSolver):
    """A diagonally implicit pair with step size control.

    Dense output is the cubic Hermite polynomial or, if the tableau has a middle, the quartic through that, too. The
    error estimate does not include the interpolation error. If outputs within steps matter, use a tighter tolerance.
    """
