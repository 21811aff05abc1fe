"""`replay` where every sample has steps of its own: round by round, each of the steps that were accepted in it."""

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ode_runner.counted_field import CountedField
from ode_runner.problem import Problem, Solution
from ode_runner.solvers.first_order import OF_A_SOLVE, first_order
from ode_runner.solvers.mapped_field import MappedField
from ode_runner.solvers.packed_field import solve_packed
from ode_runner.solvers.per_sample import PerSampleStepping
from ode_runner.solvers.sample_step import Journal, along_rows
from ode_runner.types import State, Times, Trajectory


def solve_and_replay_each(solver: PerSampleStepping, problem: Problem) -> Solution:
    """Values at `ts`, whose derivative is pulled back through one round after another, last to first.

    Rejected attempts and samples that have arrived take no part in it, so what they met is of no consequence.
    """
    field, y0, ts = problem.field, problem.y0, problem.ts
    if not torch.is_grad_enabled():
        return solver.solve(field, y0, ts)  # nobody will ask for the states
    return solve_packed(partial(_solve, solver), field, y0, ts)


def _solve(solver: PerSampleStepping, field: CountedField, y0: State, ts: Times) -> Solution:
    taken: list[Solution] = []  # autograd carries tensors only; the rest comes out this way
    ys = _ReplayEach.apply(solver, field, taken, y0, ts, *field.inputs())
    return replace(taken[0], ys=ys)


class _ReplayEach(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        solver: PerSampleStepping,
        field: CountedField,
        taken: list[Solution],
        y0: State,
        ts: Times,
        *inputs: Tensor,
    ) -> Trajectory:
        journal: Journal = []
        solution = solver.solve_noting(field, y0.detach(), ts, journal)
        taken.append(solution)
        ctx.solver, ctx.field, ctx.accepted = solver, field, solution.accepted
        ctx.rounds = [taken for taken, _ in journal]
        at_start = ts == ts[:1]
        ctx.at_start = at_start[at_start.view(len(ts), -1).any(dim=1)].to(y0.device)
        ctx.inputs = (y0, *inputs)
        ctx.save_for_backward(*(states for _, states in journal), *field.leaves())
        return solution.ys

    @staticmethod
    @first_order(OF_A_SOLVE)
    def backward(ctx: Any, dys: Tensor) -> tuple[Tensor | None, ...]:
        states, parameters = ctx.saved_tensors[: len(ctx.rounds)], ctx.saved_tensors[len(ctx.rounds) :]
        a = torch.zeros_like(dys[0])
        sums = [torch.zeros_like(p) for p in parameters]
        for taken, y0 in zip(reversed(ctx.rounds), reversed(states), strict=True):
            samples, due = taken.samples.to(a.device), taken.due
            with torch.enable_grad():
                y0 = y0.detach().requires_grad_()
                ends = taken.recompute(MappedField(ctx.field).of(taken.samples), ctx.solver.tableau, y0)
            a[samples], *parts = torch.autograd.grad(
                ends,
                [y0, *parameters],
                [a[samples], dys[due.places, due.samples]],
                allow_unused=True,
                materialize_grads=True,
            )
            for total, part in zip(sums, parts, strict=True):
                total += part
        ctx.field.ledger.tally.accepted += ctx.accepted
        for place, at_start in enumerate(ctx.at_start):  # outputs that are the beginning itself
            a = a + dys[place] if bool(at_start.all()) else torch.where(along_rows(at_start, a) > 0, a + dys[place], a)
        return None, None, None, a, None, *sums
