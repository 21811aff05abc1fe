"""Newton's method for the equations of implicit stages, and the derivative of the solution."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
from torch import Tensor

from ode_runner.field import FieldAround, VectorField
from ode_runner.solvers.implicit.frozen_jacobian import FrozenJacobian
from ode_runner.solvers.implicit.linearised import is_small, jacobian_at, linearise
from ode_runner.solvers.one_step import Step
from ode_runner.types import State, Time

ITERATIONS = 30  # far from a root, Newton's method for a quadratic only halves the distance per iteration
FAST, NOISE = 0.2, 64  # after a convergence rate below FAST, updates that stagnate below NOISE eps are rounding noise
# The smallest rate that is kept for the next solve: where df/dy is nilpotent, the rate may be 0, which means nothing.
LEAST = 1e-2
KEEPING = 1e-3  # below this rate the Jacobian is kept, however many iterations there were

Weights = Sequence[Sequence[float]]


@dataclass(frozen=True, kw_only=True)
class StageTolerance:
    """The tolerance of stage equations: the remaining error is below `limit` in units of `scale`, for each sample.

    Without a scale, stages are solved to rounding.
    """

    limit: float
    scale: Tensor | None = None  # (batch, *state)
    iterations: int = 7  # most iterations with the same Jacobian

    @staticmethod
    def of_step(y0: State, *, rtol: float, atol: float) -> "StageTolerance":
        """A fraction of the solver's tolerance that does not affect the error estimate."""
        scale = atol + rtol * y0.detach().abs()
        return StageTolerance(scale=scale, limit=max(_rounding(y0) / rtol, min(0.03, rtol**0.5)))

    @staticmethod
    def rounding(y: State) -> "StageTolerance":
        """A tolerance of rounding. For small states, a new Jacobian is soon cheaper than more iterations."""
        return StageTolerance(limit=_rounding(y), iterations=min(15, 3 + 2 * y[0].numel()))

    def size(self, update: Tensor, y: Tensor) -> float:
        """The size of an update of y, in units of the tolerance; both are (stage, batch, *state)."""
        if self.scale is None:
            return float((update.abs() / (1 + y.abs())).max())
        return float((update / self.scale).transpose(0, 1).flatten(1).square().mean(dim=1).max().sqrt())


@dataclass(frozen=True, kw_only=True)
class Equations:
    """y[i] = known[i] + sum over j of weights[i][j] * f(ts[j], y[j]), (stage, batch, *state)."""

    ts: Sequence[Time]
    known: Tensor
    weights: Weights

    @cached_property
    def coupling(self) -> Tensor:
        """The weights on the states' device, (stage, stage). Cached, because a transfer to a GPU makes the CPU wait."""
        return self.known.new_tensor(self.weights)

    def slopes(self, field: VectorField, y: Tensor) -> Tensor:
        """f at every stage."""
        return torch.stack([field(t, state) for t, state in zip(self.ts, y, strict=True)])

    def residual(self, slopes: Tensor, y: Tensor) -> Tensor:
        """The residual of the stage equations."""
        return self.known + torch.tensordot(self.coupling, slopes, dims=1) - y


@final
class Newton(FieldAround):
    """A field with a Newton solver for its stage equations, which keeps a Jacobian.

    The Jacobian is kept across iterations and steps as long as they converge. If they do not converge even with a new
    one, and the solver is `patient`, the Jacobian is recomputed in every iteration. A method that can shorten its step
    need not be patient. Systems too large to be factorised are always linearised in every iteration. Samples must not
    interact. The equations are those of the whole field, or of a `part` of it if the method is implicit in that only.

    Hairer, Wanner. Solving Ordinary Differential Equations II. Springer 1996, IV.8.
    """

    def __init__(self, field: VectorField, *, patient: bool, part: VectorField | None = None) -> None:
        super().__init__()
        self.field, self.patient = field, patient
        self.implicit = field if part is None else part
        self.frozen: FrozenJacobian | None = None
        self.error_ratio = 1.0  # remaining error relative to the last update, by the last convergence rate
        self.attempt: Step | None = None  # the last attempt and the last accepted step, for initial guesses
        self.before: Step | None = None
        self.undefined = False  # True: since the last solution, the field was not finite at a finite state

    @staticmethod
    def along(field: VectorField, *, patient: bool = True) -> "Newton":
        """A Newton solver for the field; the field itself if it is one already."""
        return field if isinstance(field, Newton) else Newton(field, patient=patient)

    def forward(self, t: Time, y: State) -> State:
        return self.field(t, y)

    @torch.no_grad()
    def solve(
        self, equations: Equations, guess: Tensor, *, begin: tuple[Time, State], tolerance: StageTolerance
    ) -> Tensor:
        """The solution, or NaN if the iteration does not converge; a new Jacobian is evaluated at `begin`."""
        if not is_small(self.implicit, len(guess), guess[0]):
            return self._linearised_anew(equations, guess, tolerance)
        kept = self.frozen is not None
        y = self._with_the_same(self.at(begin), equations, guess, tolerance)
        if y is None and kept:
            y = self._with_the_same(self.at(begin), equations, guess, tolerance)
        if y is not None:
            return y
        return self._linearised_anew(equations, guess, tolerance) if self.patient else torch.full_like(guess, torch.nan)

    @torch.no_grad()
    def polished(self, equations: Equations, y: Tensor, *, begin: tuple[Time, State]) -> Tensor:
        """The solution to rounding, from one within a tolerance; the kept Jacobian does not change."""
        tolerance, found = StageTolerance.rounding(y[0]), None
        if is_small(self.implicit, len(y), y[0]):
            frozen, error_ratio = self.at(begin), self.error_ratio
            found = self._with_the_same(frozen, equations, y, tolerance)
            self.frozen, self.error_ratio = frozen, error_ratio
        return self._linearised_anew(equations, y, tolerance) if found is None else found

    @torch.no_grad()
    def filtered(self, difference: State, weight: float, *, begin: tuple[Time, State]) -> State:
        """Solve (I - weight df/dy) x = difference, with the kept Jacobian or a new one at `begin`."""
        if is_small(self.implicit, 1, difference):
            return self.at(begin).solve(((weight,),), difference[None])[0]
        t, y = begin
        return linearise(self.implicit, [t], y[None], difference.new_tensor([[weight]])).solve(difference[None])[0]

    def at(self, begin: tuple[Time, State]) -> FrozenJacobian:
        """The kept Jacobian, or a new one at `begin`."""
        if self.frozen is None:
            self.frozen, self.error_ratio = FrozenJacobian(jacobian_at(self.implicit, *begin)), 1.0
        return self.frozen

    def _with_the_same(
        self, frozen: FrozenJacobian, equations: Equations, y: Tensor, tolerance: StageTolerance
    ) -> Tensor | None:
        """The solution with a fixed Jacobian, or None if that fails; if it fails or is slow, drop the Jacobian."""
        error_ratio, before, best = max(self.error_ratio, LEAST) ** 0.8, math.inf, 1.0
        self.frozen = None
        for left in reversed(range(tolerance.iterations)):
            slopes = equations.slopes(self.implicit, y)
            update = frozen.solve(equations.weights, equations.residual(slopes, y))
            size = tolerance.size(update, y)
            rate = size / before
            if not math.isfinite(size):
                self._note(slopes, y)
                return None
            if best < FAST and rate > 0.5 and tolerance.scale is None and size < NOISE * tolerance.limit:
                error_ratio = 0.0  # rounding noise: converged
            elif before < math.inf:
                if rate >= 1 or rate**left / (1 - rate) * size > tolerance.limit:
                    return None
                best, error_ratio = min(best, rate), rate / (1 - rate)
            y, before = y + update, size
            if error_ratio * size <= tolerance.limit:
                self.undefined = False
                if tolerance.iterations - left < 3 or rate < KEEPING:
                    self.frozen, self.error_ratio = frozen, error_ratio
                return y
        return None

    def _linearised_anew(self, equations: Equations, guess: Tensor, tolerance: StageTolerance) -> Tensor:
        """The full Newton iteration, with new Jacobians at every stage in every iteration."""
        y, before = guess, math.inf
        for _ in range(ITERATIONS):
            system = linearise(self.implicit, equations.ts, y, equations.coupling)
            update = system.solve(equations.residual(system.dy, y))
            size = tolerance.size(update, y + update)
            if not math.isfinite(size):
                self._note(system.dy, y)
            y = y + update
            # convergence is fast, and ends in noise
            if size < tolerance.limit or before / 2 < size < _rounding(y) ** 0.5:
                self.undefined = False
                return y
            if math.isnan(size):
                break
            before = size
        return torch.full_like(guess, torch.nan)

    def _note(self, slopes: Tensor, y: Tensor) -> None:
        """Note whether the field or the iteration failed."""
        self.undefined |= bool(torch.isfinite(y).all()) and not bool(torch.isfinite(slopes).all())


def differentiable(field: VectorField, equations: Equations, y: Tensor) -> Tensor:
    """The solution y with its derivative by the implicit function theorem: the derivative of one more Newton update.

    The Jacobians at y are held fixed; the graph leads to `known` and the field's parameters, not through y.
    """
    system = linearise(field, equations.ts, y, equations.coupling)
    update = system.solve(equations.residual(equations.slopes(field, y), y))
    return y + (update - update.detach())  # bitwise equal to y, as in a solve without a graph


def _rounding(y: Tensor) -> float:
    return 16 * torch.finfo(y.dtype).eps
