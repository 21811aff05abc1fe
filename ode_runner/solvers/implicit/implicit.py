"""Base classes of implicit one-step solvers."""

import abc
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple, Self

import torch
from torch import Tensor

from ode_runner.errors import SolverFailed
from ode_runner.field import VectorField
from ode_runner.problem import Solution
from ode_runner.solvers.base import check_batch
from ode_runner.solvers.embedded import AdaptiveRungeKutta
from ode_runner.solvers.first_order import OF_A_SOLVE, differentiable_once
from ode_runner.solvers.implicit.newton import Equations, Newton, StageTolerance, differentiable
from ode_runner.solvers.one_step import AcceptedStep, RungeKutta, Step
from ode_runner.solvers.tableau import time_tensor
from ode_runner.types import State, Times


class Begin(NamedTuple):
    """Time, state and slope at the beginning of a step."""

    t0: float
    y0: State
    f0: State


@dataclass(frozen=True, kw_only=True)
class ImplicitSolver(RungeKutta):
    """A solver whose stages are solutions of equations of the size of the state, found by Newton's method.

    The number of evaluations depends on the field and cannot be predicted. Up to 512 equations per sample are
    factorised. Larger systems are solved by matrix-free GMRES, which suits moderately stiff fields: for a symmetric
    Jacobian, the number of products grows with the square root of the stiffness.
    """

    implicit: ClassVar[bool] = True

    def solve(self, field: VectorField, y0: State, ts: Times) -> Solution:
        solution = super().solve(field, y0, ts)
        # Newton's last Jacobian is held fixed.
        ys, *qs = (differentiable_once(x, OF_A_SOLVE) for x in (solution.ys, *solution.integrals.values()))
        return replace(solution, ys=ys, integrals=dict(zip(solution.integrals, qs, strict=True)))

    @property
    def treats_samples_alone(self) -> bool:
        return True

    def check_state(self, y0: State) -> None:
        check_batch(y0)

    def newton(self, field: VectorField, *, patient: bool = True) -> Newton:
        """The Newton solver for steps along the field; the field itself if it is one already."""
        return Newton.along(field, patient=patient)

    def recompute(self, field: VectorField, interval: AcceptedStep, y0: State) -> Step:
        step = super().recompute(self.newton(field), interval, y0)
        if not torch.isfinite(step.y1).all():
            raise SolverFailed(
                f"{self.shown_name}: Newton's method does not find again the step from t={interval.t0:.6g} to "
                f"t={interval.t1:.6g} that it took before. Take smaller steps, or a tighter tolerance."
            )
        return step

    def stages(self, newton: Newton, equations: Equations, guess: Tensor, *, begin: Begin) -> Tensor:
        """The solution of the stage equations, (stage, batch, *state); NaN if Newton's method does not converge.

        It is differentiable by the implicit function theorem, not through the iteration.
        """
        recorded = self.recorded(newton, begin, equations.known)
        bare = replace(equations, known=equations.known.detach())
        y = self._solution(newton, bare, guess.detach(), begin, recorded=recorded)
        return differentiable(newton.implicit, equations, y) if recorded and bool(torch.isfinite(y).all()) else y

    def recorded(self, newton: Newton, begin: Begin, known: Tensor) -> bool:
        """Whether a graph of the stages is needed."""
        return torch.is_grad_enabled() and self._has_gradient(newton, begin, known)

    @abc.abstractmethod
    def _solution(self, newton: Newton, equations: Equations, guess: Tensor, begin: Begin, *, recorded: bool) -> Tensor:
        """The solution of the stage equations; to rounding if a graph is `recorded`."""

    @abc.abstractmethod
    def _has_gradient(self, field: VectorField, begin: Begin, known: Tensor) -> bool:
        """Whether stages may depend on a tensor that has a gradient."""


@dataclass(frozen=True, kw_only=True)
class AdaptiveImplicitSolver(ImplicitSolver, AdaptiveRungeKutta):
    """An implicit method with step size control; a step whose equations Newton's method cannot solve is rejected.

    Stages are solved to rounding if they are differentiated, now or when the step is recomputed. Otherwise they are
    solved to a fraction of the tolerance, which takes a third of the evaluations.
    """

    kind: ClassVar[str] = "adaptive and implicit"
    likely_cause: ClassVar[str] = "the solution is unbounded, or the field is not smooth,"
    exactly: bool = False  # to rounding though no graph is recorded; for gradient modes to set

    @property
    def error_of_nan(self) -> float:
        """An error after which step control halves the step, which often suffices for Newton's method."""
        return (2 * self.safety) ** self.error_order

    def to_be_recomputed(self) -> Self:
        return replace(self, exactly=True)

    def steps(self, field: VectorField, y0: State, ts: Times) -> Iterator[Step]:
        yield from super().steps(self.newton(field, patient=False), y0, ts)

    def newest(self, field: VectorField, ks: list[Tensor], f1: State | None) -> State | None:
        last = super().newest(field, ks, f1)
        found = last is None or bool(torch.isfinite(last).all())
        return last if found or self.newton(field).undefined else None

    def _solution(self, newton: Newton, equations: Equations, guess: Tensor, begin: Begin, *, recorded: bool) -> Tensor:
        place = (time_tensor(begin.t0, begin.y0), begin.y0.detach())
        tolerance = StageTolerance.of_step(begin.y0, rtol=self.rtol, atol=self.atol)
        y = newton.solve(equations, guess, begin=place, tolerance=tolerance)
        if (recorded or self.exactly) and bool(torch.isfinite(y).all()):
            return newton.polished(equations, y, begin=place)
        return y

    def _has_gradient(self, field: VectorField, begin: Begin, known: Tensor) -> bool:
        return any(x.requires_grad for x in (known, begin.f0, *field.parameters()))
