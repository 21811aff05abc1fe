"""Embedded explicit Runge-Kutta pairs with step size control."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Self, final

import torch
from torch import Tensor

from ode_runner.devices.transfer import read_times
from ode_runner.errors import SolverFailed
from ode_runner.field import VectorField
from ode_runner.solvers.base import AdaptiveSolver
from ode_runner.solvers.initial_step import initial_step, noticeable, rms, size_of
from ode_runner.solvers.one_step import RungeKutta, Step
from ode_runner.solvers.per_sample import PerSampleStepping
from ode_runner.solvers.quadrature import JudgedIntegrals
from ode_runner.solvers.solve_statistics import SolveStatistics
from ode_runner.solvers.step_control import Controller, StepControl
from ode_runner.solvers.stepper import AdaptiveStepper, StepResult
from ode_runner.solvers.steps_to_event import up_to_event
from ode_runner.solvers.tableau import EmbeddedTableau, advance, time_tensor
from ode_runner.types import State, Times


@dataclass(frozen=True, kw_only=True)
class AdaptiveRungeKutta(RungeKutta, AdaptiveSolver, StepControl):
    """An embedded pair: the difference of two methods estimates the error of a step.

    The error norm is over the whole batch, so that a sample's solution depends, within the tolerance, on the rest of
    the batch. The last step ends on ts[-1], and the field is never evaluated beyond it. Output times in between are
    interpolated, without evaluations unless the tableau has extra stages. Step sizes are not differentiated.

    Hairer, Norsett, Wanner. Solving Ordinary Differential Equations I. Springer 1993, II.4 to II.6.
    """

    tableau: ClassVar[EmbeddedTableau]
    likely_cause: ClassVar[str]  # for messages: the likely reason if steps become too small

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_sensible_control()

    @property
    def error_order(self) -> int:
        """One more than the order of the error estimator: the estimate is O(dt ** error_order)."""
        return self.order

    @property
    def error_of_nan(self) -> float:
        """The error to assume for an attempt whose error estimate is NaN."""
        return math.inf

    def within(self, longest: float) -> Self:
        shortest = None if self.min_step is None else min(self.min_step, longest)
        return replace(self, max_step=min(longest, self.max_step or math.inf), min_step=shortest)

    def refined(self) -> Self:
        return replace(super().refined(), min_step=None)

    def steps(self, field: VectorField, y0: State, ts: Times) -> Iterator[Step]:
        times, served = read_times(ts), 1
        if len(times) == 1:
            return
        if min(times) == max(times):  # an empty span needs no evaluation
            yield Step(t0=times[0], t1=times[0], due=times[1:], y0=y0, y1=y0, ks=[])
            return
        span = times[-1] - times[0]
        sign = 1 if span > 0 else -1
        t, y = times[0], y0
        stepper, first = self.stepper(field), self.first_step
        f, dt = stepper.begin(t, y, span=span) if first is None else (stepper.slope(t, y), first)
        statistics, failed = SolveStatistics(), 0
        judged = JudgedIntegrals(field, y, rtol=self.rtol, atol=self.atol)
        control = Controller(self, order=self.error_order)
        dt = noticeable(control.first(dt), t)
        while served < len(times):
            left, wanted = abs(times[-1] - t), dt
            dt, t1 = (left, times[-1]) if dt > 0.99 * left else (dt, t + sign * dt)  # no tiny last step
            if t1 == t or control.stuck or statistics.attempts == self.max_steps:
                raise SolverFailed(self.diagnosis(statistics, t, y, f))
            (y1, ks, f1, error, curve), rates, gain = self._attempt(stepper, judged, t, t1, y, f)
            statistics.note(dt, self.newest(field, ks, f1), accepted=error <= 1)
            dt = control.next(dt, error)
            if error > 1:
                failed += 1
                continue
            if gain is not None:
                judged.accept(gain, y1, None if f1 is None else rates[len(ks)])
            f1 = stepper.slope(t1, y1) if f1 is None else f1
            begin = served
            while served < len(times) and sign * (times[served] - t1) <= 0:
                served += 1
            ahead = max(dt, wanted)  # a step shortened by the end of the span says little about the next
            due = times[begin:served]
            step = Step(
                t0=t, t1=t1, y0=y, y1=y1, ks=ks, due=due, f1=f1, rejected=failed, ahead=ahead, curve=curve, rates=rates
            )
            yield self.detailed(field, step) if step.dense else step
            t, y, f, failed = t1, y1, f1, 0

    def stepper(self, field: VectorField) -> AdaptiveStepper:
        return EagerAdaptiveStepper(self, field) if self.stepping is None else self.stepping(field)

    def first_size(self, field: VectorField, t0: float, y0: State, f0: State, *, span: float) -> float:
        """The size of the first step, chosen automatically for one evaluation."""
        t, norm, order = time_tensor(t0, y0), self.norm or rms, self.error_order
        judged = JudgedIntegrals(field, y0, rtol=self.rtol, atol=self.atol)
        return initial_step(
            field, t, y0, f0, order=order, rtol=self.rtol, atol=self.atol, norm=norm, span=span, judged=judged
        )

    def _attempt(
        self, stepper: AdaptiveStepper, judged: JudgedIntegrals, t0: float, t1: float, y0: State, f0: State
    ) -> tuple[StepResult, list[Tensor | None], Tensor | None]:
        """An attempted step, whose error is the larger of state and integrals; integrands at its nodes; their gain.

        An error of NaN is replaced by `error_of_nan`.
        """
        result = stepper.step(t0, t1, y0, f0)
        if math.isnan(result.error):
            result = result._replace(error=self.error_of_nan)
        if not judged.which:
            return result, [], None
        step = Step(t0=t0, t1=t1, due=[], y0=y0, y1=result.y1, ks=result.ks, f1=result.f1)
        b, b_error, nodes = self.tableau.b, self.tableau.b_error, self.nodes(step)
        rates, gain, of_integrals = judged.errors(nodes, t1 - t0, b=b, b_error=b_error)
        of_integrals = self.error_of_nan if math.isnan(of_integrals) else of_integrals
        return result._replace(error=max(result.error, of_integrals)), rates, gain

    def newest(self, field: VectorField, ks: list[Tensor], f1: State | None) -> State | None:
        """The last derivative of an attempt, for the diagnosis; None if NaN there would not be the field's fault."""
        del field
        return ks[-1] if f1 is None else f1

    def in_tolerances(self, difference: Tensor, y0: State, y1: State) -> Tensor:
        """The norm of a difference between two solutions at the end of a step, in units of the tolerance."""
        tolerance = self.atol + self.rtol * torch.maximum(y0.abs(), y1.abs())
        return (self.norm or rms)(difference / tolerance)

    def estimate(self, field: VectorField, t0: float, t1: float, y0: State, ks: list[Tensor]) -> Tensor:
        """The error estimate of a step; a subclass may evaluate the field for it."""
        del field
        return self.difference(y0, t1 - t0, ks)

    def difference(self, y0: State, dt: float, ks: list[Tensor]) -> Tensor:
        """The difference of the step's two solutions."""
        return advance(torch.zeros_like(y0), dt, self.tableau.b_error, ks)

    def diagnosis(self, statistics: SolveStatistics, t: float, y: State, f: State) -> str:
        """A sentence that says where the solve stopped, by which limit, and why."""
        where = (
            f"{self.shown_name} stopped at t={t:.6g} after {statistics.accepted} accepted and "
            f"{statistics.rejected} rejected steps, "
            f"|y|={size_of(y.detach(), 1.0, rms):.3g}, |f|={size_of(f.detach(), 1.0, rms):.3g}, "
            f"last steps {', '.join(f'{dt:.2g}' for dt in statistics.sizes) or 'none'}"
        )
        if not torch.isfinite(y).all():
            return f"{where}: the initial state has NaN or infinity."
        if not (torch.isfinite(f).all() and (statistics.newest is None or torch.isfinite(statistics.newest).all())):
            return f"{where}: the field returned NaN or infinity."
        if statistics.attempts == self.max_steps:
            return f"{where}: {self.limit_reached}"
        if statistics.sizes and self.min_step is not None and statistics.sizes[-1] <= self.min_step:
            return f"{where}: the tolerance asks for steps shorter than solver.min_step={self.min_step:g}."
        return (
            f"{where}: steps shrank to nothing, so {self.likely_cause} at "
            f"rtol={self.rtol:g}, atol={self.atol:g}. Loosen the tolerances."
        )


@final
class EagerAdaptiveStepper(AdaptiveStepper):
    """Takes steps eagerly, by the solver's own operations, which autograd can record."""

    def __init__(self, solver: AdaptiveRungeKutta, field: VectorField) -> None:
        self.solver, self.field = solver, field

    def slope(self, t: float, y: State) -> State:
        return self.field(time_tensor(t, y), y)

    def begin(self, t0: float, y0: State, *, span: float) -> tuple[State, float]:
        f0 = self.slope(t0, y0)
        return f0, self.solver.first_size(self.field, t0, y0, f0, span=span)

    def step(self, t0: float, t1: float, y0: State, f0: State | None) -> StepResult:
        y1, ks = self.solver.step(self.field, t0, t1, y0, self.slope(t0, y0) if f0 is None else f0)
        f1 = self.slope(t1, y1) if self.solver.tableau.first_same_as_last else None
        with torch.no_grad():
            difference = self.solver.estimate(self.field, t0, t1, y0, ks if f1 is None else [*ks, f1])
            return StepResult(y1, ks, f1, float(self.solver.in_tolerances(difference, y0, y1)))


@dataclass(frozen=True, kw_only=True)
class EmbeddedRungeKutta(AdaptiveRungeKutta, PerSampleStepping):
    """An explicit pair: two evaluations to start, then one less than the tableau's rows per attempted step.

    A pair whose last stage is not f(t1, y1) takes one more per accepted step.
    """

    likely_cause: ClassVar[str] = "the problem is stiff for an explicit method, or its solution is unbounded"

    def steps(self, field: VectorField, y0: State, ts: Times) -> Iterator[Step]:
        return up_to_event(self, field, super().steps(field, y0, ts))
