"""Recomputation if every sample has its own steps: the accepted steps of one round after another."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from ode_runner.fields.counted_field import CountedField
from ode_runner.gradients.solve_rule import SolveRule, solve_by_rule
from ode_runner.problem import Problem, Solution
from ode_runner.solvers.mapped_field import MappedField
from ode_runner.solvers.packed_field import solve_packed
from ode_runner.solvers.per_sample import PerSampleStepping
from ode_runner.solvers.sample_step import Journal, along_rows
from ode_runner.types import State, Times


def solve_and_recompute_per_sample(solver: PerSampleStepping, problem: Problem) -> Solution:
    """The solution at `ts`; its derivative is pulled back through one round after another, last to first.

    Rejected attempts and finished samples are not recomputed, so that NaN or infinity in them does not matter.
    """
    field, y0, ts = problem.field, problem.y0, problem.ts
    if not torch.is_grad_enabled():
        return solver.solve(field, y0, ts)  # no backward pass
    return solve_packed(partial(_solve, solver), field, y0, ts)


def _solve(solver: PerSampleStepping, field: CountedField, y0: State, ts: Times) -> Solution:
    return solve_by_rule(_RecomputePerSample(solver), field, y0, ts)


class _RecomputePerSample(SolveRule):
    def __init__(self, solver: PerSampleStepping) -> None:
        self.solver = solver

    def solve(self, field: CountedField, y0: State, ts: Times) -> tuple[Solution, Sequence[Tensor]]:
        journal: Journal = []
        solution = self.solver.solve_noting(field, y0, ts, journal)
        self.accepted, self.rounds = solution.accepted, [taken for taken, _ in journal]
        at_start = ts == ts[:1]
        self.at_start = at_start[at_start.view(len(ts), -1).any(dim=1)].to(y0.device)
        return solution, [states for _, states in journal]

    def pull_back(
        self, field: CountedField, kept: Sequence[Tensor], parameters: Sequence[Tensor], dys: Tensor, dqs: Tensor
    ) -> tuple[Tensor, Sequence[Tensor]]:
        del dqs  # integrals are part of the state
        a, sums = torch.zeros_like(dys[0]), [torch.zeros_like(p) for p in parameters]
        for taken, y0 in zip(reversed(self.rounds), reversed(kept), strict=True):
            samples, due = taken.samples.to(a.device), taken.due
            with torch.enable_grad():
                y0 = y0.detach().requires_grad_()
                ends = taken.recompute(MappedField(field).of(taken.samples), self.solver.tableau, y0)
            a[samples], *parts = torch.autograd.grad(
                ends,
                [y0, *parameters],
                [a[samples], dys[due.time_indices, due.samples]],
                allow_unused=True,
                materialize_grads=True,
            )
            for total, part in zip(sums, parts, strict=True):
                total += part
        field.ledger.tally.accepted += self.accepted
        for place, at_start in enumerate(self.at_start):  # outputs at the first time
            a = a + dys[place] if bool(at_start.all()) else torch.where(along_rows(at_start, a) > 0, a + dys[place], a)
        return a, sums
