"""A solve that keeps accepted states only, and goes through its steps once more on the way back."""

from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from ode_runner.field import CountedField
from ode_runner.first_order import OF_A_SOLVE, first_order
from ode_runner.solvers.base import Solution
from ode_runner.solvers.one_step import Interval, StepwiseSolver, solution_along
from ode_runner.types import State, Times, Trajectory

Method = TypeVar("Method", bound=StepwiseSolver)


class Retaken(NamedTuple, Generic[Method]):
    """An accepted step, to be taken anew, and what reaches it from what came after."""

    solver: Method
    field: CountedField
    place: Interval
    y0: State
    cotangents: Sequence[Tensor]  # dL/dy1, then those with respect to the outputs due in the step
    parameters: Sequence[Tensor]


PullBack = Callable[[Retaken[Method]], Sequence[Tensor]]  # to dL/dy0, and the step's part of dL/dparameters


def solve_and_replay(
    solver: Method, field: CountedField, y0: State, ts: Times, *, pull_back: PullBack[Method]
) -> Solution:
    """Values at `ts`, whose derivative is pulled back through one accepted step after another, last to first."""
    if not torch.is_grad_enabled():
        return solver.solve(field, y0, ts)  # nobody will ask for the states
    parameters = tuple(p for p in field.parameters() if p.requires_grad)
    course: list[Interval] = []  # autograd carries tensors only; the rest comes out this way
    ys = _Replay.apply(solver, field, pull_back, course, y0, ts, *parameters)
    return solution_along(course, ys)


class _Replay(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        solver: Method,
        field: CountedField,
        pull_back: PullBack[Method],
        course: list[Interval],
        y0: State,
        ts: Times,
        *parameters: Tensor,
    ) -> Trajectory:
        ys, states = [y0], []
        for step in solver.steps(field, y0, ts):
            ys += solver.outputs(step)
            states.append(step.y0)
            course.append(step.interval)
        ctx.solver, ctx.field, ctx.pull_back, ctx.course = solver, field, pull_back, course
        ctx.inputs = (y0, *parameters)
        ctx.save_for_backward(*states, *parameters)
        return torch.stack(ys)

    @staticmethod
    @first_order(OF_A_SOLVE)
    def backward(ctx: Any, dys: Tensor) -> tuple[Tensor | None, ...]:
        states, parameters = ctx.saved_tensors[: len(ctx.course)], ctx.saved_tensors[len(ctx.course) :]
        a, sums, served = torch.zeros_like(dys[0]), [torch.zeros_like(p) for p in parameters], len(dys)
        for place, y0 in zip(reversed(ctx.course), reversed(states), strict=True):
            cotangents = [a, *dys[served - len(place.due) : served]]
            served -= len(place.due)
            a, *parts = ctx.pull_back(Retaken(ctx.solver, ctx.field, place, y0, cotangents, parameters))
            for total, part in zip(sums, parts, strict=True):
                total += part
        ctx.field.ledger.tally.accepted += len(ctx.course)
        return None, None, None, None, a + dys[0], None, *sums
