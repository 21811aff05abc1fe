"""Backpropagation that keeps accepted states only and takes their steps anew on the way back."""

from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ode_runner.errors import IncompatibleChoice
from ode_runner.field import CountedField
from ode_runner.gradients.base import GradientMode
from ode_runner.solvers.base import Solution, Solver
from ode_runner.solvers.one_step import Interval, OneStepSolver
from ode_runner.types import State, Times, Trajectory


@final
@dataclass(frozen=True, kw_only=True)
class Checkpoint(GradientMode):
    """Backpropagation with the graph of one step in memory at any moment.

    Exact for the computed solution. Keeps one state an accepted step and nothing of a rejected one; pays the
    stages of every accepted step a second time, and one evaluation more for a step with outputs inside. The field
    must be deterministic: what is taken anew must be what was taken.

    Zhuang, Dvornek, Li, Tatikonda, Papademetris, Duncan. Adaptive Checkpoint Adjoint Method for Gradient
    Estimation in Neural ODE. ICML 2020.
    """

    requires: ClassVar[type] = OneStepSolver
    requirement: ClassVar[str] = "a Runge-Kutta solver, whose steps can be taken one at a time"
    exact: ClassVar[bool] = True

    def solve(self, solver: Solver, field: CountedField, y0: State, ts: Times) -> Solution:
        if not isinstance(solver, OneStepSolver):
            raise IncompatibleChoice(f"gradient=checkpoint needs {self.requirement}.")
        if not torch.is_grad_enabled():
            return solver.solve(field, y0, ts)  # nobody will ask for the states
        parameters = tuple(p for p in field.parameters() if p.requires_grad)
        course: list[Interval] = []  # autograd carries tensors only; the rest comes out this way
        ys = _Replay.apply(solver, field, course, y0, ts, *parameters)
        return Solution(ys=ys, accepted=len(course), rejected=sum(place.rejected for place in course))


class _Replay(torch.autograd.Function):
    """A solve whose backward pass differentiates its steps one at a time, last to first."""

    @staticmethod
    def forward(
        ctx: Any,
        solver: OneStepSolver,
        field: CountedField,
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
        ctx.solver, ctx.field, ctx.course = solver, field, course
        ctx.save_for_backward(*states, *parameters)
        return torch.stack(ys)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dys: Tensor) -> tuple[Tensor | None, ...]:
        states, parameters = ctx.saved_tensors[: len(ctx.course)], ctx.saved_tensors[len(ctx.course) :]
        a, sums, served = torch.zeros_like(dys[0]), [torch.zeros_like(p) for p in parameters], len(dys)
        for place, y0 in zip(reversed(ctx.course), reversed(states), strict=True):
            cotangents = [a, *dys[served - len(place.due) : served]]
            served -= len(place.due)
            a, *parts = _pull_back(ctx.solver, ctx.field, place, y0, cotangents, parameters)
            for total, part in zip(sums, parts, strict=True):
                total += part
        ctx.field.ledger.tally.accepted += len(ctx.course)
        return None, None, None, a + dys[0], None, *sums


def _pull_back(
    solver: OneStepSolver,
    field: CountedField,
    place: Interval,
    y0: State,
    cotangents: list[Tensor],
    parameters: tuple[Tensor, ...],
) -> tuple[Tensor, ...]:
    """dL/dy0 and the step's part of dL/dparameters, from dL/dy1 and those with respect to the step's outputs."""
    with torch.enable_grad():
        y0 = y0.detach().requires_grad_()
        y1, outputs = solver.retake(field, place, y0)
    wanted = [y0, *parameters]
    return torch.autograd.grad([y1, *outputs], wanted, cotangents, allow_unused=True, materialize_grads=True)
