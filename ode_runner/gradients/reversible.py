"""Backpropagation that undoes the steps of a reversible solver."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from ode_runner.counted_field import CountedField
from ode_runner.errors import IncompatibleChoice
from ode_runner.gradients.base import GradientMode
from ode_runner.problem import Problem, Solution
from ode_runner.solvers.base import Solver
from ode_runner.solvers.first_order import OF_A_SOLVE, first_order
from ode_runner.solvers.packed_field import solve_packed
from ode_runner.solvers.reversible import Carried, ReversibleSolver
from ode_runner.transfer import read_times
from ode_runner.types import State, Times, Trajectory


@final
@dataclass(frozen=True, kw_only=True)
class Reversible(GradientMode):
    """Backpropagation in constant memory: undoes each step, and takes it anew for the graph of that step alone.

    Exact for the computed solution up to rounding, which the way back amplifies as it would any error. Keeps what
    the solver carries at the end, whatever the number of steps and outputs; evaluates the field twice as often as
    the way there.

    Kidger, Foster, Li, Lyons. Efficient and Accurate Gradients for Neural SDEs. NeurIPS 2021, Algorithm 2.
    """

    requires: ClassVar[type] = ReversibleSolver
    requirement: ClassVar[str] = "a reversible solver, whose steps it undoes"
    example: ClassVar[str] = "reversible_heun"
    exact: ClassVar[bool] = True

    def solve(self, solver: Solver, problem: Problem) -> Solution:
        if not isinstance(solver, ReversibleSolver):
            raise IncompatibleChoice(f"gradient=reversible needs {self.requirement}.")
        field, y0, ts = problem.field, problem.y0, problem.ts
        if len(ts) == 1:
            return solver.solve(field, y0, ts)  # no step to undo
        if solver.packs:
            return solve_packed(partial(_solve, solver), field, y0, ts)
        return _solve(solver, field, y0, ts)


def _solve(solver: ReversibleSolver, field: CountedField, y0: State, ts: Times) -> Solution:
    taken: list[Solution] = []  # autograd carries tensors only; the statistics come out this way
    ys, qs = _Undone.apply(solver, field, taken, y0, ts, *field.inputs())
    return replace(taken[0], ys=ys, integrals=field.named(qs))


class _Undone(torch.autograd.Function):
    """A solve whose backward pass runs through it in reverse."""

    @staticmethod
    def forward(
        ctx: Any,
        solver: ReversibleSolver,
        field: CountedField,
        taken: list[Solution],
        y0: State,
        ts: Times,
        *inputs: Tensor,
    ) -> tuple[Trajectory, Tensor]:
        solution, carried = solver.solve_noting_steps(field, y0.detach(), ts)
        taken.append(solution)
        ctx.solver, ctx.field, ctx.companions = solver, field, len(carried)
        ctx.inputs, ctx.ts = (y0, *inputs), ts  # the very tensor of times, whose numbers are known
        ctx.save_for_backward(*carried, *field.leaves())
        return solution.ys, field.stacked(solution.integrals, solution.ys)

    @staticmethod
    @first_order(OF_A_SOLVE)
    def backward(ctx: Any, dys: Tensor, dqs: Tensor) -> tuple[Tensor | None, ...]:
        saved, ts = ctx.saved_tensors, ctx.ts
        solver, field = ctx.solver, ctx.field
        carried, parameters = tuple(saved[: ctx.companions]), list(saved[ctx.companions :])
        sums = [torch.zeros_like(p) for p in parameters]
        cotangents, c = [torch.zeros_like(part) for part in carried], torch.zeros_like(dqs[0])
        grids = reversed(solver.grids(ts))
        for grid, dy, dq in zip(grids, reversed(dys), reversed(dqs), strict=False):  # dys[0] is of y0 itself
            cotangents[0], c = cotangents[0] + dy, c + dq
            for t0, t1 in reversed(solver.strides(grid)):
                carried = solver.reverse_step(field, t0, t1, carried)
                with torch.enable_grad():
                    before = tuple(part.detach().requires_grad_() for part in carried)
                    after, gain = solver.stride(field, t0, t1, before)
                after, cotangents = (after, cotangents) if gain is None else ((*after, gain), [*cotangents, c])
                cotangents = _pull_back(after, cotangents, before, parameters, sums)
                field.ledger.tally.accepted += 1
        with torch.enable_grad():
            y0 = carried[0].detach().requires_grad_()
            begun = solver.begin(field, read_times(ts)[0], y0)
        (a,) = _pull_back(begun, cotangents, (y0,), parameters, sums)
        return None, None, None, a + dys[0], None, *sums


def _pull_back(
    after: Carried, cotangents: list[Tensor], before: Carried, parameters: list[Tensor], sums: list[Tensor]
) -> list[Tensor]:
    """Cotangents of `before` from those of `after`; adds the parameters' parts to `sums`."""
    pairs = [(part, a) for part, a in zip(after, cotangents, strict=True) if part.requires_grad]
    outputs, wanted = [part for part, _ in pairs], [*before, *parameters]
    found = torch.autograd.grad(outputs, wanted, [a for _, a in pairs], allow_unused=True, materialize_grads=True)
    for total, part in zip(sums, found[len(before) :], strict=True):
        total += part
    return list(found[: len(before)])
