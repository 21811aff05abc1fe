"""Solves along compiled steps whose derivative is that of the steps."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ode_runner.compiling.field import CompiledField, steps_of
from ode_runner.compiling.outputs import Outputs
from ode_runner.compiling.steps import CompiledSteps
from ode_runner.field import CountedField, VectorField
from ode_runner.solvers.base import Solution, Solver
from ode_runner.solvers.one_step import Interval, Step
from ode_runner.types import State, Times, Trajectory


def compile_exact(solver: Solver, field: VectorField, y0: State) -> Callable[[CountedField, State, Times], Solution]:
    """For states like `y0`: accepted steps are taken anew on the way back, as by `gradient=checkpoint`.

    That costs as many evaluations as there, and needs no more of a compiled step than its beginning.

    Raises:
        CannotCompile: the field or the solver does not allow it.
    """
    return partial(_solve, steps_of(solver, field, y0))


def _solve(steps: CompiledSteps, field: CountedField, y0: State, ts: Times) -> Solution:
    course: list[Interval] = []  # autograd carries tensors only; the rest comes out this way
    ys = _ExactSolve.apply(field, steps, course, y0, ts, *field.parameters())
    return Solution(ys=ys, accepted=len(course), rejected=sum(place.rejected for place in course))


class _ExactSolve(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        field: CountedField,
        steps: CompiledSteps,
        course: list[Interval],
        y0: State,
        ts: Times,
        *parameters: Tensor,
    ) -> Trajectory:
        theta, states, due = steps.packing.pack(parameters), [], list[Step]()
        for step in steps.solver.steps(CompiledField(field, steps, theta), y0, ts):
            states.append(step.y0)
            course.append(step.interval)
            due += [step] if step.due else []
        outputs = Outputs(steps.tableau, course, y0)
        ctx.field, ctx.steps, ctx.course, ctx.outputs = field, steps, course, outputs
        ctx.save_for_backward(torch.stack(states), theta)
        return torch.cat([y0[None], outputs.values(due)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dys: Tensor) -> tuple[Tensor | None, ...]:
        steps, (states, theta) = ctx.steps, ctx.saved_tensors
        a, sums = torch.zeros_like(dys[0]), torch.zeros_like(theta)
        to_ends, to_ks = ctx.outputs.pull_back(dys[1:])
        clocks = states.new_tensor([[place.t0, place.t1, place.t1 - place.t0] for place in ctx.course])
        within, tally = list(to_ks.unbind()), ctx.field.ledger.tally
        ways = zip(ctx.course, clocks.unbind(), states.unbind(), to_ends.unbind(), strict=True)
        for place, clock, y0, (dy0, dy1) in reversed(list(ways)):
            if place.dense:
                a, sums = steps.back_within(clock, y0, dy0, a, dy1, within.pop(), sums, theta)
            else:
                a, sums = steps.back(clock, y0, a, dy1, sums, theta)
            tally.evaluations += steps.tableau.stages + place.dense
        tally.accepted += len(ctx.course)
        return None, None, None, a + dys[0], None, *steps.packing.unpack(sums)
