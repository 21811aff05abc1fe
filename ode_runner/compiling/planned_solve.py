"""Adaptive solves on a GPU by a plan that says which attempts are accepted, so that the CPU waits for no error.

The GPU itself chooses step sizes. Whether step control would have accepted and rejected as planned is checked
afterwards, from the errors that were noted.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import final

import torch
from torch import Tensor

from ode_runner.compiling.captured_steps import StepFunctions
from ode_runner.devices.transfer import read_times
from ode_runner.errors import CannotCompile, SolverFailed
from ode_runner.fields.counted_field import CountedField
from ode_runner.fields.ledger import Ledger
from ode_runner.problem import Problem, Solution
from ode_runner.solvers.embedded import EmbeddedRungeKutta
from ode_runner.solvers.initial_step import first_step
from ode_runner.solvers.one_step import AcceptedStep, solution_along
from ode_runner.solvers.step_control import DeviceController
from ode_runner.solvers.stepper import AdaptiveStepper, StepResult
from ode_runner.types import State, Times

Plan = tuple[bool, ...]  # of each attempt of a solve, whether it is accepted
ROUNDING = 1e-12  # as a fraction of the span: step times of CPU and GPU may differ by this


def plan_of(accepted_steps: Sequence[AcceptedStep]) -> Plan:
    """The attempts that a solve has taken."""
    return tuple(accepted for interval in accepted_steps for accepted in (*[False] * interval.rejected, True))


@final
class PlannedSolve:
    """Solves problems whose only output is at the end by a plan, in operations that autograd differentiates.

    The derivative is that of the steps, as with `gradient=backprop`. A solve by a wrong plan gives wrong states: check
    `noted` with `taken`.

    Args:
        solver: the embedded pair.
        plan: its last attempt is accepted.
    """

    def __init__(self, solver: EmbeddedRungeKutta, plan: Plan) -> None:
        self.solver, self.plan = solver, plan
        # Of the last solve, float64: three norms, then t0, t1 and the error of each attempt; None before the first
        self.noted: Tensor | None = None
        self._solved: tuple[CountedField, Times] | None = None

    def __call__(self, problem: Problem) -> Solution:
        """The solution, without the sizes of its steps.

        Raises:
            CannotCompile: it is a second solve, which would overwrite `noted`, or there are outputs before the end.
        """
        if self.noted is not None or len(problem.ts) != 2:
            raise CannotCompile("a pass makes more solves, or solves with more output times, than the first one did")
        field, y, solver, (start, end) = problem.field, problem.y0, self.solver, read_times(problem.ts)
        self._solved = CountedField.around(field.field, Ledger()), problem.ts
        functions, control = StepFunctions(solver, field), DeviceController(solver, order=solver.error_order)
        t, last = (torch.full((), time, dtype=torch.float64, device=y.device) for time in (start, end))
        f, first, norms = self._begun(functions, y, t, last, span=abs(end - start))
        dt, noted = control.first(first).clamp_min(4 * math.ulp(start)), [norms]
        for accepted in self.plan:
            left = (last - t).abs()
            ends = dt > 0.99 * left  # as in AdaptiveRungeKutta.steps
            dt, t1 = torch.where(ends, left, dt), torch.where(ends, last, t + math.copysign(1.0, end - start) * dt)
            y1, *rest, estimate = functions.step(torch.stack([t, t1, t1 - t]).to(y), y, f)
            error = torch.where(estimate.isnan(), solver.error_of_nan, estimate.double())
            noted.append(torch.stack([t, t1, error]))
            dt = control.next(dt, error, accepted=accepted)
            if accepted:
                t, y = t1, y1
                f = rest[0] if solver.tableau.first_same_as_last else functions.slope(t1.to(y).view(1), y1)[0]
        self.noted, rejected = torch.cat(noted), self.plan.count(False)
        return Solution(ys=torch.stack([problem.y0, y]), accepted=len(self.plan) - rejected, rejected=rejected)

    def taken(self, noted: Sequence[float]) -> Solution | None:
        """The solution without states, from `noted`; None if step control would have decided otherwise.

        If it is None, the states of the solve are wrong and must be discarded.
        """
        assert self._solved is not None, "nothing has been solved"
        (field, ts), nothing = self._solved, torch.zeros(1)
        start, end = read_times(ts)
        stepper = _NotedSteps(self.solver, self.plan, noted, span=end - start)
        try:
            steps = list(replace(self.solver, stepping=lambda _: stepper).steps(field, nothing, ts))
        except (SolverFailed, _NotAsPlanned):
            return None
        return solution_along([step.interval for step in steps], nothing) if stepper.done else None

    def _begun(
        self, functions: StepFunctions, y: State, t: Tensor, last: Tensor, *, span: float
    ) -> tuple[State, Tensor, Tensor]:
        """The first slope, the size of the first step, and the norms from which it was chosen."""
        if self.solver.first_step is not None:
            [f] = functions.slope(t.to(y).view(1), y)
            return f, torch.full_like(t, self.solver.first_step), t.new_zeros(3)
        f, found = functions.begin(torch.stack([t, last, last - t]).to(y), y)
        norms = found.double()
        return f, self._first_size(norms, span=span), norms

    def _first_size(self, norms: Tensor, *, span: float) -> Tensor:
        """`first_step` from the norms of `StepFunctions.begin`, on the GPU."""
        d0, d1, slope_change = norms.unbind()
        h0 = torch.where((d0 < 1e-5) | (d1 < 1e-5), 1e-6, 0.01 * d0 / d1).clamp_max(span / 2)
        steepest = torch.maximum(d1, slope_change / h0)
        suggested = (0.01 / steepest) ** (1 / self.solver.error_order)
        h1 = torch.where(steepest <= 1e-15, (1e-3 * h0).clamp_min(1e-6), suggested)
        h = torch.minimum(100 * h0, h1)
        return torch.where(h.isfinite(), h, h0)


class _NotAsPlanned(Exception):
    """Step control would have decided otherwise than the plan."""


@final
class _NotedSteps(AdaptiveStepper):
    """Replays the attempts that were noted, for step control on the CPU; states are placeholders."""

    def __init__(self, solver: EmbeddedRungeKutta, plan: Plan, noted: Sequence[float], *, span: float) -> None:
        self.solver, self._norms, self._most = solver, noted[:3], ROUNDING * abs(span)
        attempts = (noted[place : place + 3] for place in range(3, len(noted), 3))
        self._attempts = list(zip(plan, attempts, strict=True))

    @property
    def done(self) -> bool:
        """Whether step control has used every attempt of the plan."""
        return not self._attempts

    def begin(self, t0: float, y0: State, *, span: float) -> tuple[State, float]:
        d0, d1, slope_change = self._norms
        return y0, first_step(d0, d1, lambda _: slope_change, order=self.solver.error_order, span=span)

    def slope(self, t: float, y: State) -> State:
        return y

    def step(self, t0: float, t1: float, y0: State, f0: State | None) -> StepResult:
        if not self._attempts:
            raise _NotAsPlanned
        accepted, (began, ended, error) = self._attempts.pop(0)
        most = max(self._most, 4 * math.ulp(max(abs(t0), abs(t1))))  # times are rounded
        near = abs(t0 - began) <= most and abs(t1 - ended) <= most  # False for NaN
        if not near or (error <= 1) != accepted:
            raise _NotAsPlanned
        return StepResult(y0, [y0], y0, error)
