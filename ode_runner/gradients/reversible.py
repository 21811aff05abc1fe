"""Backpropagation that reverses the steps of a reversible solver."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, final

import torch
from torch import Tensor

from ode_runner.devices.transfer import read_times
from ode_runner.errors import IncompatibleChoice
from ode_runner.fields.counted_field import CountedField
from ode_runner.gradients.base import GradientMode
from ode_runner.gradients.solve_rule import SolveRule, solve_by_rule
from ode_runner.problem import Problem, Solution
from ode_runner.solvers.base import Solver
from ode_runner.solvers.packed_field import solve_packed
from ode_runner.solvers.reversible import Carried, ReversibleSolver
from ode_runner.types import State, Times


@final
@dataclass(frozen=True, kw_only=True)
class Reversible(GradientMode):
    """Backpropagation in constant memory: reverses each step, and recomputes it to have the graph of one step only.

    Exact for the computed solution up to rounding, which the backward pass amplifies as it would any error. Stores what
    the solver carries at the end, whatever the number of steps and outputs. The backward pass takes twice as many
    evaluations as the forward solve.

    Kidger, Foster, Li, Lyons. Efficient and Accurate Gradients for Neural SDEs. NeurIPS 2021, Algorithm 2.
    """

    requires: ClassVar[type] = ReversibleSolver
    requirement: ClassVar[str] = "a reversible solver, whose steps it undoes"
    example: ClassVar[str] = "reversible_heun"
    exact: ClassVar[bool] = True
    takes_complex: ClassVar[bool] = True

    def solve(self, solver: Solver, problem: Problem) -> Solution:
        if not isinstance(solver, ReversibleSolver):
            raise IncompatibleChoice(f"gradient=reversible needs {self.requirement}.")
        field, y0, ts = problem.field, problem.y0, problem.ts
        if len(ts) == 1:
            return solver.solve(field, y0, ts)  # no step to reverse
        if solver.packs:
            return solve_packed(partial(_solve, solver), field, y0, ts)
        return _solve(solver, field, y0, ts)


def _solve(solver: ReversibleSolver, field: CountedField, y0: State, ts: Times) -> Solution:
    return solve_by_rule(_UndoSteps(solver), field, y0, ts)


class _UndoSteps(SolveRule):
    def __init__(self, solver: ReversibleSolver) -> None:
        self.solver = solver

    def solve(self, field: CountedField, y0: State, ts: Times) -> tuple[Solution, Sequence[Tensor]]:
        self.ts = ts  # the same tensor, whose values are cached
        return self.solver.solve_noting_steps(field, y0, ts)

    def pull_back(
        self, field: CountedField, kept: Sequence[Tensor], parameters: Sequence[Tensor], dys: Tensor, dqs: Tensor
    ) -> tuple[Tensor, Sequence[Tensor]]:
        solver, carried = self.solver, tuple(kept)
        sums = [torch.zeros_like(p) for p in parameters]
        cotangents, c = [torch.zeros_like(part) for part in carried], torch.zeros_like(dqs[0])
        grids = reversed(solver.grids(self.ts))
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
            begun = solver.begin(field, read_times(self.ts)[0], y0)
        (a,) = _pull_back(begun, cotangents, (y0,), parameters, sums)
        return a + dys[0], sums


def _pull_back(
    after: Carried, cotangents: list[Tensor], before: Carried, parameters: Sequence[Tensor], sums: list[Tensor]
) -> list[Tensor]:
    """Cotangents of `before` from those of `after`; adds the contributions to parameters' gradients to `sums`."""
    pairs = [(part, a) for part, a in zip(after, cotangents, strict=True) if part.requires_grad]
    outputs, wanted = [part for part, _ in pairs], [*before, *parameters]
    found = torch.autograd.grad(outputs, wanted, [a for _, a in pairs], allow_unused=True, materialize_grads=True)
    for total, part in zip(sums, found[len(before) :], strict=True):
        total += part
    return list(found[: len(before)])
