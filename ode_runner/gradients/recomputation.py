"""A solve that stores accepted states only, and recomputes its steps in the backward pass."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from ode_runner.devices.random_state import RandomState
from ode_runner.fields.counted_field import CountedField
from ode_runner.gradients.observation import Redrawn
from ode_runner.gradients.solve_rule import SolveRule, solve_by_rule
from ode_runner.problem import Problem, Solution
from ode_runner.solvers.base import FixedStepSolver, Solver
from ode_runner.solvers.implicit.implicit import ImplicitSolver
from ode_runner.solvers.one_step import AcceptedStep, Gathered, Step, StepwiseSolver
from ode_runner.solvers.tableau import time_tensor
from ode_runner.types import State, Times

Method = TypeVar("Method", bound=StepwiseSolver)


class StepVJP(NamedTuple, Generic[Method]):
    """An accepted step, to be recomputed, and the cotangents of its results."""

    solver: Method
    field: CountedField
    interval: AcceptedStep
    y0: State
    cotangents: Sequence[Tensor]  # dL/dy1, then those with respect to the outputs due in the step
    of_integrals: Sequence[Tensor]  # the same for integrals; empty if there are none
    parameters: Sequence[Tensor]
    redrawn: Redrawn | None  # the observer to use if the field draws random numbers


PullBack = Callable[[StepVJP[Method]], Sequence[Tensor]]  # returns dL/dy0, and the step's part of dL/dparameters


def solve_and_recompute(solver: Method, problem: Problem, *, pull_back: PullBack[Method]) -> Solution:
    """Values at `ts`, whose derivative is pulled back through one accepted step after another, last to first."""
    field, y0, ts = problem.field, problem.y0, problem.ts
    if not torch.is_grad_enabled():
        return solver.solve(field, y0, ts)  # no backward pass
    return solve_by_rule(_Replay(solver.to_be_recomputed(), pull_back), field, y0, ts)


def redrawable(solver: Solver) -> bool:
    """Whether a recomputed step makes the same evaluations, so that it can repeat the random numbers."""
    return (
        isinstance(solver, FixedStepSolver)
        and isinstance(solver, StepwiseSolver)
        and not isinstance(solver, ImplicitSolver)
    )


class _Replay(SolveRule, Generic[Method]):
    def __init__(self, solver: Method, pull_back: PullBack[Method]) -> None:
        self.solver, self.pull_back_step = solver, pull_back

    def solve(self, field: CountedField, y0: State, ts: Times) -> tuple[Solution, Sequence[Tensor]]:
        gathered, states, draws, observer = Gathered(self.solver, field, y0), [], _Draws(field), field.observer
        for step in self.solver.steps(field, y0, ts):
            gathered.add(step)
            states.append(step.y0)
            draws.end_of(step)
        self.accepted_steps = gathered.accepted_steps
        self.draws = draws.of_steps if observer is not None and observer.random else None
        return gathered.solution(), states

    def pull_back(
        self, field: CountedField, kept: Sequence[Tensor], parameters: Sequence[Tensor], dys: Tensor, dqs: Tensor
    ) -> tuple[Tensor, Sequence[Tensor]]:
        a, sums, served = torch.zeros_like(dys[0]), [torch.zeros_like(p) for p in parameters], len(dys)
        integrated, c = bool(field.names), torch.zeros_like(dqs[0])
        with nullcontext() if self.draws is None else RandomState.now(dys.device).again():
            for i, (interval, y0) in reversed(list(enumerate(zip(self.accepted_steps, kept, strict=True)))):
                due = slice(served - len(interval.due), served)
                cotangents, of_integrals = [a, *dys[due]], [c, *dqs[due]] if integrated else []
                served, c = due.start, c + dqs[due].sum(dim=0) if integrated else c
                field.observer = redrawn = None if self.draws is None else Redrawn(self.draws[i])
                step = StepVJP(self.solver, field, interval, y0, cotangents, of_integrals, parameters, redrawn)
                a, *parts = self.pull_back_step(step)
                for total, part in zip(sums, parts, strict=True):
                    total += part
        field.ledger.tally.accepted += len(self.accepted_steps)
        return a + dys[0], sums


class _Draws:
    """The random state before each evaluation of each step, on a fixed grid."""

    def __init__(self, field: CountedField) -> None:
        self.all = field.observer.draws if field.observer is not None else []
        self.served = len(self.all)
        self.of_steps: list[list[RandomState]] = []

    def end_of(self, step: Step) -> None:
        """Assign the evaluations since the last step to this one; its first may be the last one's last."""
        made, self.served = slice(self.served, len(self.all)), len(self.all)
        found = self.all[made]
        if not found or found[0][0] != float(time_tensor(step.t0, step.y0)):
            found = self.all[max(made.start - 1, 0) : made.stop]
        self.of_steps.append([state for _, state in found])
