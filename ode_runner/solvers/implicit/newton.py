"""Newton's method for the equations of implicit stages, and their derivative."""

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

ITERATIONS = 30  # where a square dominates, Newton's method halves the distance many times before it converges
FAST, NOISE = 0.2, 64  # after such a rate of convergence, what stands still below so many times rounding is noise
# The least that is taken over from an earlier solve: where df/dy is nilpotent, its rate may be 0 and says nothing more.
LEAST = 1e-2
KEEPING = 1e-3  # a rate so good that the Jacobian serves further, however many iterations there were

Weights = Sequence[Sequence[float]]


@dataclass(frozen=True, kw_only=True)
class StageTolerance:
    """How well stages are to be solved: until what is left is below `limit` in units of `scale`, sample by sample.

    Without a scale, to rounding.
    """

    limit: float
    scale: Tensor | None = None  # (batch, *state)
    iterations: int = 7  # with the same Jacobian

    @staticmethod
    def of_step(y0: State, *, rtol: float, atol: float) -> "StageTolerance":
        """A part of the tolerance so small that the error estimate does not see it."""
        scale = atol + rtol * y0.detach().abs()
        return StageTolerance(scale=scale, limit=max(_rounding(y0) / rtol, min(0.03, rtol**0.5)))

    @staticmethod
    def rounding(y: State) -> "StageTolerance":
        """All digits; where products are few, a new Jacobian is soon cheaper than more iterations."""
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
        """The weights where the states are, (stage, stage). Made once: on a GPU the CPU waits until they are there."""
        return self.known.new_tensor(self.weights)

    def slopes(self, field: VectorField, y: Tensor) -> Tensor:
        """f at every stage."""
        return torch.stack([field(t, state) for t, state in zip(self.ts, y, strict=True)])

    def residual(self, slopes: Tensor, y: Tensor) -> Tensor:
        """The residual of the stage equations."""
        return self.known + torch.tensordot(self.coupling, slopes, dims=1) - y


@final
class Newton(FieldAround):
    """A field, and the Jacobian with which the stages of a solve along it were last solved.

    The Jacobian is kept across iterations and steps as long as they converge. Where they do not with a new one, it is
    made anew in every iteration, if `patient`; whoever can take a shorter step instead need not be. So it is where
    systems are too large to be factorised. Samples must not interact. The equations are of the whole field, or of a
    `part` of it where the method takes another part explicitly.

    Hairer, Wanner. Solving Ordinary Differential Equations II. Springer 1996, IV.8.
    """

    def __init__(self, field: VectorField, *, patient: bool, part: VectorField | None = None) -> None:
        super().__init__()
        self.field, self.patient = field, patient
        self.implicit = field if part is None else part
        self.frozen: FrozenJacobian | None = None
        self.outlook = 1.0  # what is left after an update, in units of it, by the rate of convergence last seen
        self.attempt: Step | None = None  # the last one, and the last accepted, for a guess of the next
        self.before: Step | None = None
        self.undefined = False  # since equations were last solved, the field was not finite at a state that was

    @staticmethod
    def along(field: VectorField, *, patient: bool = True) -> "Newton":
        """The field itself where it has a Jacobian to keep already."""
        return field if isinstance(field, Newton) else Newton(field, patient=patient)

    def forward(self, t: Time, y: State) -> State:
        return self.field(t, y)

    @torch.no_grad()
    def solve(
        self, equations: Equations, guess: Tensor, *, begin: tuple[Time, State], tolerance: StageTolerance
    ) -> Tensor:
        """The solution, or NaN where the iteration does not settle; a new Jacobian is made at `begin`."""
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
        """The solution to rounding, from one within a tolerance; which Jacobian is kept does not change."""
        tolerance, found = StageTolerance.rounding(y[0]), None
        if is_small(self.implicit, len(y), y[0]):
            frozen, outlook = self.at(begin), self.outlook
            found = self._with_the_same(frozen, equations, y, tolerance)
            self.frozen, self.outlook = frozen, outlook
        return self._linearised_anew(equations, y, tolerance) if found is None else found

    @torch.no_grad()
    def filtered(self, difference: State, weight: float, *, begin: tuple[Time, State]) -> State:
        """The x of (I - weight df/dy) x = difference, df/dy being the Jacobian kept or one made at `begin`."""
        if is_small(self.implicit, 1, difference):
            return self.at(begin).solve(((weight,),), difference[None])[0]
        t, y = begin
        return linearise(self.implicit, [t], y[None], difference.new_tensor([[weight]])).solve(difference[None])[0]

    def at(self, begin: tuple[Time, State]) -> FrozenJacobian:
        """The Jacobian kept, or a new one."""
        if self.frozen is None:
            self.frozen, self.outlook = FrozenJacobian(jacobian_at(self.implicit, *begin)), 1.0
        return self.frozen

    def _with_the_same(
        self, frozen: FrozenJacobian, equations: Equations, y: Tensor, tolerance: StageTolerance
    ) -> Tensor | None:
        """None where that does not converge; then, and where it is slow, the Jacobian is kept no longer."""
        outlook, before, best = max(self.outlook, LEAST) ** 0.8, math.inf, 1.0
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
                outlook = 0.0  # noise
            elif before < math.inf:
                if rate >= 1 or rate**left / (1 - rate) * size > tolerance.limit:
                    return None
                best, outlook = min(best, rate), rate / (1 - rate)
            y, before = y + update, size
            if outlook * size <= tolerance.limit:
                self.undefined = False
                if tolerance.iterations - left < 3 or rate < KEEPING:
                    self.frozen, self.outlook = frozen, outlook
                return y
        return None

    def _linearised_anew(self, equations: Equations, guess: Tensor, tolerance: StageTolerance) -> Tensor:
        """The iteration with new Jacobians at every stage and in every iteration."""
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
        """Note which one failed: the field, or the iteration."""
        self.undefined |= bool(torch.isfinite(y).all()) and not bool(torch.isfinite(slopes).all())


def differentiable(field: VectorField, equations: Equations, y: Tensor) -> Tensor:
    """The solution y, with the derivative that the implicit function theorem gives it: that of one more update.

    The Jacobians at y are held fixed; the graph is one through what is known and the field's parameters, not through y.
    """
    system = linearise(field, equations.ts, y, equations.coupling)
    update = system.solve(equations.residual(equations.slopes(field, y), y))
    return y + (update - update.detach())  # of y itself to the bit: where no graph is wanted, the solution is the same


def _rounding(y: Tensor) -> float:
    return 16 * torch.finfo(y.dtype).eps
