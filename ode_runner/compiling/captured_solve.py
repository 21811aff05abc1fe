"""Adaptive solves on a GPU along recorded steps. The CPU waits once per attempt, for its error, and once to begin."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, final

import torch
from torch import Tensor

from ode_runner.compiling.captured_function import CapturedFunction
from ode_runner.compiling.captured_stepper import CapturedStepper, Taken
from ode_runner.compiling.captured_steps import CapturedSteps
from ode_runner.compiling.planned_solve import Plan, PlannedSolve, plan_of
from ode_runner.compiling.recorded_stepper import clock_of, pair_of
from ode_runner.compiling.stepper import check_recordable
from ode_runner.errors import CannotCompile
from ode_runner.fields.counted_field import CountedField
from ode_runner.problem import Problem, Solution
from ode_runner.solvers.base import Solver
from ode_runner.solvers.first_order import first_order
from ode_runner.solvers.one_step import AcceptedStep, solution_along
from ode_runner.types import State, Times, Trajectory

OF_CAPTURED_STEPS = (
    "a second derivative of captured steps was asked for (create_graph=True), and they have none. "
    "Solve without compiling, with gradient=backprop."
)


def capture_exact(solver: Solver, problem: Problem, *, keeps: bool, fuses: bool) -> "CapturedSolve":
    """A solve by recorded steps for problems like this one; its derivative is that of the steps.

    Args:
        solver: an embedded pair.
        problem: an example of the problems.
        keeps: whether all that the backward pass needs is saved, as with `gradient=backprop`; otherwise accepted steps
            are recomputed in the backward pass, as with `gradient=checkpoint`.
        fuses: whether the field is compiled into fused kernels.

    Raises:
        CannotCompile: the field or the solver does not allow it.
    """
    field, pair = problem.field, pair_of(solver)
    check_recordable(problem)
    if field.names:
        raise CannotCompile(f"something is integrated along the solve: {', '.join(field.names)}")
    return CapturedSolve(CapturedSteps(pair, field, problem.y0, field.given, fuses=fuses), keeps=keeps)


@final
class CapturedSolve:
    """Solves by recorded steps; once a step could not be recorded, by eager ones from then on.

    `note` is called with the attempts of each solve. Inside `following`, solves are those of a plan.
    """

    def __init__(self, steps: CapturedSteps, *, keeps: bool) -> None:
        self.steps, self.keeps = steps, keeps
        self.note: Callable[[Plan], None] = lambda _: None
        self._proven = self._given_up = False
        self._planned: PlannedSolve | None = None

    @contextmanager
    def following(self, planned: PlannedSolve) -> Iterator[None]:
        """Inside, the one call is solved by `planned`."""
        self._planned, planned.noted = planned, None
        try:
            yield
        finally:
            self._planned = None

    def __call__(self, problem: Problem) -> Solution:
        if self._planned is not None:
            return self._planned(problem)
        field, y0, ts = problem.field, problem.y0, problem.ts
        if len(ts) == 1 or self._given_up:
            return self._ordinary(problem)
        accepted_steps: list[AcceptedStep] = []  # filled by forward(), which can return only tensors
        try:
            ys = _Captured.apply(field, self, accepted_steps, y0, ts, *field.given, *self.steps.parameters)
        except CannotCompile:
            if not self._proven:  # before training, where the caller reports it
                raise
            self._given_up = True
            return self._ordinary(problem)
        self._proven = True
        self.note(plan_of(accepted_steps))
        return solution_along(accepted_steps, ys)

    def _ordinary(self, problem: Problem) -> Solution:
        """A solve by eager steps."""
        gathered = self.steps.solver.gathered(problem.field, problem.y0, problem.ts)
        self.note(plan_of(gathered.accepted_steps))
        return gathered.solution()


class _Captured(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        field: CountedField,
        solve: CapturedSolve,
        accepted_steps: list[AcceptedStep],
        y0: State,
        ts: Times,
        *values: Tensor,
    ) -> Trajectory:
        stepper = CapturedStepper(solve.steps, field, keeps=solve.keeps, dense=len(ts) > 2)
        solver = replace(solve.steps.solver, stepping=lambda _: stepper)
        ys = [y0]
        try:
            for step in solver.steps(field, y0.detach(), ts):
                ys += solver.outputs(step) if solve.keeps else [y.clone() for y in solver.outputs(step)]
                stepper.accept(step)
        except CannotCompile:
            stepper.evaluations = 0  # the solve will be repeated, and counted then
            raise
        finally:
            field.ledger.tally.evaluations += stepper.evaluations
        accepted_steps += [taken.interval for taken in stepper.taken]
        ctx.field, ctx.stepper, ctx.inputs = field, stepper, (y0, *values)
        return torch.stack(ys)

    @staticmethod
    @first_order(OF_CAPTURED_STEPS)
    def backward(ctx: Any, dys: Tensor) -> tuple[Tensor | None, ...]:
        stepper: CapturedStepper = ctx.stepper
        back, served = _BackwardPass(stepper, dys[0]), len(dys)
        for taken in reversed(stepper.taken):
            due = dys[served - len(taken.interval.due) : served]
            served -= len(due)
            back.through(taken, due)
        back.to_the_beginning()
        if not stepper.keeps:
            ctx.field.ledger.tally.evaluations += back.evaluations
            ctx.field.ledger.tally.accepted += len(stepper.taken)
        return None, None, None, back.a + dys[0], None, *back.of_given(), *back.of_parameters()


@final
class _BackwardPass:
    """Propagates adjoints from the last step of a solve to the first: dL/dy, dL/df, and sums for all other tensors."""

    def __init__(self, stepper: CapturedStepper, like: State) -> None:
        self.stepper, self.steps = stepper, stepper.steps
        self.a, self.af = torch.zeros_like(like), torch.zeros_like(like)
        self.moving = [z for z in stepper.field.given if z.requires_grad]
        self.sums: list[Tensor] = []  # for given tensors that require a gradient, then for parameters
        self.evaluations = 0

    def through(self, taken: Taken, due: Tensor) -> None:
        """Propagate through a step; `due` is dL/dy of the outputs that were due in it."""
        interval = taken.interval
        within = [(interval.fraction(t), dy) for t, dy in zip(interval.due, due, strict=True) if t != interval.t1]
        for t, dy in zip(interval.due, due, strict=True):
            self.a = self.a + dy if t == interval.t1 else self.a
        of_slopes = self._of_slopes(within, interval.t1 - interval.t0)
        if taken.step is None:
            return
        if self.stepper.keeps:
            self._kept(taken, taken.step, of_slopes)
        else:
            self._again(taken, of_slopes)
        for _, dy in within:
            self.a = self.a + dy

    def to_the_beginning(self) -> None:
        """Propagate through the first slope, if steps were kept."""
        if self.stepper.keeps and self.stepper.first is not None:
            self.a = self.a + self._pulled(self.stepper.first, self.af)[0]

    def of_given(self) -> list[Tensor | None]:
        """dL/dz of the given tensors; None if z does not require a gradient."""
        sums = iter(self.sums or [torch.zeros_like(z) for z in self.moving])
        return [next(sums) if z.requires_grad else None for z in self.stepper.field.given]

    def of_parameters(self) -> list[Tensor]:
        """dL/dtheta."""
        return self.sums[len(self.moving) :] or [torch.zeros_like(p) for p in self.steps.parameters]

    def _kept(self, taken: Taken, step: CapturedFunction, of_slopes: list[Tensor]) -> None:
        if of_slopes:
            self.af = self.af + of_slopes[-1]
        if taken.end is not None:
            self.a = self.a + self._pulled(taken.end, self.af)[0]
        ends = [self.a] if taken.end is not None else [self.a, self.af]
        self.a, self.af = self._pulled(step, *ends, *of_slopes[1:-1])
        if of_slopes:
            self.af = self.af + of_slopes[0]

    def _again(self, taken: Taken, of_slopes: list[Tensor]) -> None:
        """Recompute the step, and the slope at its end if there are outputs within it, and propagate through it."""
        recordings = self.steps.dense_again if of_slopes else self.steps.again
        recording, interval = recordings.take(), taken.interval
        try:
            recording(clock_of(interval.t0, interval.t1, taken.y0), taken.y0, *self.stepper.given)
            self.evaluations += self.steps.tableau.stages + bool(of_slopes)
            [a] = self._pulled(recording, self.a, *of_slopes[-1:], *of_slopes[:-1])
            self.a = a.clone()  # the recording may be used again for the next step
        finally:
            recordings.give_back(recording)

    def _pulled(self, recording: CapturedFunction, *cotangents: Tensor) -> list[Tensor]:
        """The derivatives with respect to the states and slopes of a recording's call; adds the others to the sums."""
        found, of_parameters = recording.pull_back(*cotangents)
        states = found[: len(found) - len(self.moving)]
        parts = [*found[len(states) :], *of_parameters]
        self.sums = list(torch._foreach_add(self.sums, parts)) if self.sums else [part.clone() for part in parts]
        return states

    def _of_slopes(self, within: Sequence[tuple[float, Tensor]], dt: float) -> list[Tensor]:
        """dL/dk of each stage and of f1, from outputs within the step; empty without such outputs."""
        rows = [(self.steps.tableau.within(x), dy) for x, dy in within]
        return [
            torch.stack([dt * weights[i] * dy for weights, dy in rows]).sum(0)
            for i in range(self.steps.tableau.stages + 1 if rows else 0)
        ]
