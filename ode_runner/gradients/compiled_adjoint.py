"""The adjoint ODE with compiled steps, there and back."""

from collections.abc import Sequence
from functools import partial
from typing import Any, final

import torch
from torch import Tensor
from torch.func import vjp

from ode_runner.compiling.packing import Packing
from ode_runner.compiling.solves import CompiledSolve
from ode_runner.compiling.stepper import compilable, stepping_by, steps_of
from ode_runner.compiling.steps import CompiledSteps
from ode_runner.compiling.values import Equation, Values
from ode_runner.compiling.whole_adjoint import WholeAdjoint
from ode_runner.compiling.whole_solves import WholeSolves
from ode_runner.counted_field import CountedField
from ode_runner.errors import CannotCompile
from ode_runner.gradients.captured_adjoint import capture_adjoint
from ode_runner.gradients.continuous import (
    AdjointEquation,
    adjoint_slopes,
    solve_back,
    solve_with_adjoint,
    split_adjoint,
    split_like,
)
from ode_runner.problem import Problem, Solution
from ode_runner.solvers.base import Solver
from ode_runner.solvers.first_order import OF_A_SOLVE, first_order
from ode_runner.solvers.one_step import solution_along
from ode_runner.types import State, Time, Trajectory


def compile_adjoint(forward: Solver, backward: Solver, problem: Problem, *, fuses: bool = False) -> CompiledSolve:
    """For problems like this one: both solves by compiled steps; on a GPU by recorded ones.

    There the field is compiled into fused kernels first if `fuses` says so.

    Raises:
        CannotCompile: the field or the solver does not allow it.
    """
    if problem.y0.device.type == "cuda":
        return capture_adjoint(forward, backward, problem, fuses=fuses)
    if names := problem.field.names:
        raise CannotCompile(
            f"an adjoint equation along which something is integrated ({', '.join(names)}) has no compiled form, while "
            "gradient=backprop and checkpoint have one"
        )
    there, values = steps_of(forward, problem)
    found = [value.detach() for value in values.tensors(problem.field)]
    y0 = problem.y0.detach()
    flat = torch.cat([part.reshape(-1) for part in (y0, torch.ones_like(y0), *found[: values.learned])])
    equation = partial(_slopes, values.equation(problem.field), y0.shape, values.learned)
    back = CompiledSteps(compilable(backward), equation, flat, found, learned=values.learned)
    whole = WholeSolves.of(there), WholeAdjoint.of(back, y0.numel())
    return partial(_solve, values, there, back, whole)


def _solve(
    values: Values,
    there: CompiledSteps,
    back: CompiledSteps,
    whole: tuple[WholeSolves | None, WholeAdjoint | None],
    problem: Problem,
) -> Solution:
    field = problem.field
    theta = there.packing.pack([value.detach() for value in values.tensors(field)])
    if whole[0] is not None and whole[1] is not None and len(problem.ts) > 1:
        solution = solve_whole(whole[0], whole[1], back, problem, theta)
        if solution is not None:
            return solution
    forward, backward = (stepping_by(steps, field.ledger, theta) for steps in (there, back))
    problem = Problem(field=field, y0=problem.y0.contiguous(), ts=problem.ts)
    return solve_with_adjoint(forward, backward, problem, adjoint=partial(_PackedAdjoint, there.learned))


def solve_whole(
    forward: WholeSolves, backward: WholeAdjoint, back: CompiledSteps, problem: Problem, theta: Tensor
) -> Solution | None:
    """There and back, each as one call of machine code; None where Python has to take the steps."""
    field, y0 = problem.field, problem.y0.contiguous()
    if backward.library is None:
        return None
    solved = forward.solve(y0.detach(), problem.ts, theta, first=forward.first)
    if solved is None:
        return None
    ys, taken = solved
    field.ledger.tally.evaluations += forward.evaluations(taken, first=forward.first)
    ys = _WholeAdjointSolve.apply(field, backward, back, taken.times, theta, ys, y0, *field.inputs())
    return solution_along(taken.places(), ys)


class _WholeAdjointSolve(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        field: CountedField,
        backward: WholeAdjoint,
        back: CompiledSteps,
        times: Tensor,
        theta: Tensor,
        ys: Trajectory,
        y0: State,
        *inputs: Tensor,
    ) -> Trajectory:
        ctx.field, ctx.whole, ctx.back, ctx.times = field, backward, back, times
        ctx.inputs = (y0, *inputs)
        ctx.save_for_backward(ys, theta)
        return ys

    @staticmethod
    @first_order(OF_A_SOLVE)
    def backward(ctx: Any, dys: Tensor) -> tuple[Tensor | None, ...]:
        field, back, (ys, theta) = ctx.field, ctx.back, ctx.saved_tensors
        found = ctx.whole.solve_back(ctx.times, ys, dys.contiguous(), theta)
        if found is None:  # Python finds out why
            adjoint = _PackedAdjoint(back.learned, field, field.leaves(), ys.shape[1:])
            solver, nothing = stepping_by(back, field.ledger, theta), dys.new_zeros(len(dys), 0)
            g = theta.new_zeros(sum(back.learned.sizes))
            a, g = solve_back(solver, field, adjoint, ctx.times, ys, dys, nothing, g)
        else:
            a, g, tally = found
            field.ledger.tally.evaluations += tally.evaluations
            field.ledger.tally.enter(tally.accepted, tally.rejected, tally.smallest)
        return None, None, None, None, None, None, a, *back.learned.unpack(g)


@final
class _PackedAdjoint(AdjointEquation):
    """The adjoint equation, with g in the layout of compiled steps."""

    def __init__(self, packing: Packing, field: CountedField, parameters: Sequence[Tensor], shape: torch.Size) -> None:
        super().__init__()
        self.packing, self.field, self.wanted, self.shape = packing, field, parameters, shape

    def gradients(self, g: Tensor) -> list[Tensor]:
        return self.packing.unpack(g)

    def forward(self, t: Time, y: State) -> State:
        """Evaluate eagerly, for what no compiled code stands for."""
        y, a, _ = self.split(y)
        dy, slopes = adjoint_slopes(self.field, t, y, a, None, self.wanted)
        da, of_values = slopes[: a.numel()], slopes[a.numel() :]
        return torch.cat([dy.reshape(-1), da, self.packing.pack(split_like(of_values, self.wanted))])


def _slopes(
    field: Equation, shape: torch.Size, learned: int, t: Time, flat: Tensor, values: Sequence[Tensor]
) -> Tensor:
    y, a, _ = split_adjoint(flat, shape)
    fixed = values[learned:]
    slope = vjp(lambda y, *some: field(t, y, [*some, *fixed]), y, *values[:learned])
    dy, (da, *parts) = slope[0], slope[1](-a)
    return torch.cat([dy.reshape(-1), da.reshape(-1), Packing(values[:learned]).pack(parts)])
