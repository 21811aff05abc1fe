"""Embedded explicit Runge-Kutta pairs with step size control."""

import math
from collections import deque
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ode_runner.errors import SolverFailed
from ode_runner.field import VectorField
from ode_runner.solvers.base import AdaptiveSolver, Norm, Solution
from ode_runner.solvers.initial_step import initial_step, rms
from ode_runner.solvers.tableau import EmbeddedTableau, advance, stage_time
from ode_runner.types import State, Times

SAFETY, SHRINK, GROW = 0.9, 0.2, 10.0  # torchdiffeq's, so that numbers of evaluations can be compared


@dataclass(frozen=True, kw_only=True)
class EmbeddedRungeKutta(AdaptiveSolver):
    """Two evaluations to start, then one less than the tableau's stages for every attempted step.

    A pair whose last stage is not f(t1, y1) pays one more for every accepted step. The error is measured over the
    whole batch, so a sample's solution depends, within tolerance, on its company. The last step ends on ts[-1] and
    the field is never evaluated beyond it; output times in between are interpolated and cost nothing. Step
    sizes are choices of the method and are not differentiated.

    Hairer, Norsett, Wanner. Solving Ordinary Differential Equations I. Springer 1993, II.4 to II.6.
    """

    tableau: ClassVar[EmbeddedTableau]

    def solve(self, field: VectorField, y0: State, ts: Times) -> Solution:
        times, norm = ts.tolist(), self.norm or rms
        if min(times) == max(times):  # there is no step to take, however stiff the field
            return Solution(ys=torch.stack([y0] * len(times)), accepted=0)
        span = times[-1] - times[0]
        sign = 1 if span > 0 else -1
        t, y, f = times[0], y0, field(ts[0].detach(), y0)
        dt = initial_step(field, ts[0], y0, f, order=self.order, rtol=self.rtol, atol=self.atol, norm=norm, span=span)
        course, ys = _Course(), [y0]
        while len(ys) < len(times):
            left = abs(times[-1] - t)
            dt, t1 = (left, times[-1]) if dt > 0.99 * left else (dt, t + sign * dt)  # no sliver for a last step
            if t1 == t or course.attempts == self.max_steps:
                raise SolverFailed(self._diagnosis(course, t, y, f))
            y1, ks = self._stages(field, t, t1, y, f)
            error = self._error(y, y1, ks, t1 - t, norm)
            course.note(dt, ks[-1], accepted=error <= 1)
            if error <= 1:
                f1 = ks[-1] if self.tableau.first_same_as_last else field(_time(t1, y), y1)
                due = [target for target in times[len(ys) :] if sign * (target - t1) <= 0]
                ys += self._outputs(due, t, t1, y, y1, ks, f1)
                t, y, f = t1, y1, f1
            dt *= self._factor(error)
        return Solution(ys=torch.stack(ys), accepted=course.accepted, rejected=course.rejected)

    def _stages(self, field: VectorField, t0: float, t1: float, y0: State, f0: State) -> tuple[State, list[Tensor]]:
        """y(t1) and the stages' derivatives, the first of which is known."""
        dt, ks, y = t1 - t0, [f0], y0
        for c, row in zip(self.tableau.c[1:], self.tableau.a[1:], strict=True):
            y = advance(y0, dt, row, ks)
            ks.append(field(_time(stage_time(t0, t1, c), y0), y))
        return (y if self.tableau.first_same_as_last else advance(y0, dt, self.tableau.b, ks)), ks

    @torch.no_grad()
    def _error(self, y0: State, y1: State, ks: list[Tensor], dt: float, norm: Norm) -> float:
        """Estimated local error in units of the tolerance; NaN counts as infinite."""
        difference = advance(torch.zeros_like(y0), dt, self.tableau.b_error, ks)
        tolerance = self.atol + self.rtol * torch.maximum(y0.abs(), y1.abs())
        error = float(norm(difference / tolerance))
        return error if not math.isnan(error) else math.inf

    def _factor(self, error: float) -> float:
        """By how much the next step differs: an integral controller."""
        if error == 0:
            return GROW
        return min(GROW, max(SAFETY * error ** (-1 / self.order), 1.0 if error <= 1 else SHRINK))

    def _outputs(
        self, due: list[float], t0: float, t1: float, y0: State, y1: State, ks: list[Tensor], f1: State
    ) -> list[State]:
        """States at the output times within a step, on the quartic through both ends, their slopes and the middle."""
        if due in ([], [t1]):
            return [y1] * len(due)
        dt, f0 = t1 - t0, ks[0]
        if self.tableau.middle is None:
            middle = (y0 + y1) / 2 + dt / 8 * (f0 - f1)
        else:
            middle = advance(y0, dt, self.tableau.middle, ks)
        a = 2 * dt * (f1 - f0) - 8 * (y1 + y0) + 16 * middle
        b = dt * (5 * f0 - 3 * f1) + 18 * y0 + 14 * y1 - 32 * middle
        c = dt * (f1 - 4 * f0) - 11 * y0 - 5 * y1 + 16 * middle
        places = [(target - t0) / dt for target in due]
        return [y1 if x == 1 else y0 + x * (dt * f0 + x * (c + x * (b + x * a))) for x in places]

    def _diagnosis(self, course: "_Course", t: float, y: State, f: State) -> str:
        """One sentence: where it stopped, on what, and why."""
        where = (
            f"{type(self).__name__} stopped at t={t:.6g} after {course.accepted} accepted and {course.rejected} "
            f"rejected steps, |y|={float(rms(y.detach())):.3g}, |f|={float(rms(f.detach())):.3g}, "
            f"last steps {', '.join(f'{dt:.2g}' for dt in course.sizes) or 'none'}"
        )
        if not (torch.isfinite(f).all() and (course.newest is None or torch.isfinite(course.newest).all())):
            return f"{where}: the field returned NaN or infinity."
        if course.attempts == self.max_steps:
            return f"{where}: the limit solver.max_steps={self.max_steps} was reached."
        return (
            f"{where}: steps shrank to nothing, so the problem is stiff for an explicit method at "
            f"rtol={self.rtol:g}, atol={self.atol:g}. Loosen the tolerances."
        )


class _Course:
    """What a solve has been through: its statistics, and what explains a failure."""

    def __init__(self) -> None:
        self.accepted = self.rejected = 0
        self.sizes: deque[float] = deque(maxlen=5)
        self.newest: Tensor | None = None  # the last derivative computed

    @property
    def attempts(self) -> int:
        return self.accepted + self.rejected

    def note(self, dt: float, derivative: Tensor, *, accepted: bool) -> None:
        self.accepted += accepted
        self.rejected += not accepted
        self.sizes.append(dt)
        self.newest = derivative.detach()


def _time(t: float, y: State) -> Tensor:
    return torch.full((), t, dtype=y.dtype, device=y.device)
