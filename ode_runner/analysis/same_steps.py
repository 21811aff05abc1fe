"""Repeating the steps of a solve in another precision."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, final

import torch

from ode_runner.devices.random_state import RandomState
from ode_runner.errors import IncompatibleChoice
from ode_runner.event import Stop
from ode_runner.fields.counted_field import CountedField, name_of
from ode_runner.gradients.base import GradientMode
from ode_runner.problem import Problem, Solution
from ode_runner.solvers.base import AdaptiveSolver, Solver
from ode_runner.solvers.mapped_field import MappedField
from ode_runner.solvers.one_step import AcceptedStep, Gathered, RungeKutta, solution_along
from ode_runner.solvers.packed_field import solve_packed
from ode_runner.solvers.per_sample import PerSampleStepping
from ode_runner.solvers.sample_step import Journal, Round
from ode_runner.types import State, Times


def recomputes_steps(solver: Solver) -> bool:
    """Whether the reference takes the same steps as the solve; torchdiffeq's adaptive methods choose new ones."""
    return isinstance(solver, RungeKutta) or not isinstance(solver, AdaptiveSolver)


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """The accepted steps of a solve with separate steps for each sample."""

    taken: list[Round]
    accepted: int  # of the sample with the most, as in `Solution`
    rejected: int
    stop: Stop | None  # the stop, if an event stopped the solve


@final
@dataclass(frozen=True, kw_only=True)
class RecordSteps(GradientMode):
    """Solves without a graph, and records the accepted steps of every solve of a one-step method."""

    exact: ClassVar[bool] = False
    through_autograd: ClassVar[bool] = True
    to_events: ClassVar[bool] = True
    solves: list[list[AcceptedStep]] = field(default_factory=list)
    rounds: list[Rounds] = field(default_factory=list)

    def solve(self, solver: Solver, problem: Problem) -> Solution:
        field, y0, ts = problem.field, problem.y0, problem.ts
        before = RandomState.now(y0.device)
        solution = self._recorded(solver, field, y0, ts)
        if isinstance(solver, AdaptiveSolver) and not before.same_as(RandomState.now(y0.device)):
            raise IncompatibleChoice(
                f"{name_of(field)} draws random numbers, as dropout does, and an adaptive solver's steps cannot be "
                "repeated with the same numbers for comparison. Use a solver of fixed step, such as solver=rk4."
            )
        return solution

    @torch.no_grad()
    def _recorded(self, solver: Solver, field: CountedField, y0: State, ts: Times) -> Solution:
        if isinstance(solver, PerSampleStepping) and solver.per_sample:
            journal: Journal = []
            solution = solve_packed(partial(solver.solve_noting, journal=journal), field, y0, ts)
            taken = [steps for steps, _ in journal]
            self.rounds.append(
                Rounds(taken=taken, accepted=solution.accepted, rejected=solution.rejected, stop=solution.stop)
            )
            return solution
        if not isinstance(solver, RungeKutta):
            return solver.solve(field, y0, ts)
        gathered = Gathered(solver, field, y0)
        for step in solver.to_be_recomputed().steps(field, y0, ts):
            gathered.add(step)
        self.solves.append(gathered.accepted_steps)
        return gathered.solution()


@final
@dataclass(frozen=True, kw_only=True)
class ReplaySteps(GradientMode):
    """Backpropagation through recorded steps, solve by solve in order, without step control.

    In another precision, rounding might make step control choose other steps, and thus another solution within the
    tolerance. Methods that are not Runge-Kutta methods solve as usual, which repeats a fixed grid.
    """

    exact: ClassVar[bool] = True
    through_autograd: ClassVar[bool] = True
    to_events: ClassVar[bool] = True
    solves: Iterator[list[AcceptedStep]]
    rounds: Iterator[Rounds]

    def solve(self, solver: Solver, problem: Problem) -> Solution:
        field, y0, ts = problem.field, problem.y0, problem.ts
        if isinstance(solver, PerSampleStepping) and solver.per_sample:
            rounds = next(self.rounds)
            return solve_packed(partial(_replay_each, solver, rounds=rounds), field, y0, ts)
        if not isinstance(solver, RungeKutta):
            return solver.solve(field, y0, ts)
        gathered, accepted_steps = Gathered(solver, field, y0), next(self.solves)
        for interval in accepted_steps:
            step = solver.recompute(field, interval, y0)
            gathered.add(step)
            y0 = step.y1
        ys, qs = gathered.tensors()
        return solution_along(accepted_steps, ys, field.named(qs))


def _replay_each(solver: PerSampleStepping, field: CountedField, y0: State, ts: Times, rounds: Rounds) -> Solution:
    mapped, ys = MappedField(field), torch.stack([y0] * len(ts))  # initial states, for outputs that no step fills
    for taken in rounds.taken:
        samples, due = taken.samples.to(y0.device), taken.due
        ends, outputs = taken.recompute(mapped.of(samples), solver.tableau, y0[samples])
        y0 = y0.index_put((samples,), ends)
        ys = ys.index_put((due.time_indices.to(y0.device), due.samples.to(y0.device)), outputs)
    return Solution(ys=ys, accepted=rounds.accepted, rejected=rounds.rejected, stop=rounds.stop)
