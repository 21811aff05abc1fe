"""A probe of one solve: its states at equally spaced times, which are part of the autograd graph."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import ClassVar, final

import torch
from torch import Tensor

from ode_runner.errors import IncompatibleChoice
from ode_runner.fields.counted_field import CountedField
from ode_runner.gradients.base import GradientMode
from ode_runner.gradients.breaks import solve_between_breaks
from ode_runner.problem import Problem, Solution
from ode_runner.solvers.base import Solver
from ode_runner.types import State, Times, Trajectory


@dataclass(frozen=True, kw_only=True)
class TrajectoryProbe:
    """One solve as in training, with its states at some times from a second solve that keeps the graph."""

    solver: Solver
    solve: Callable[[State, Times], Solution]
    field: CountedField
    ts: Times
    solution: Solution
    times: list[float]  # of the states
    states: list[State]  # each depends on the one before

    @property
    def span(self) -> float:
        """The time from the first state to the last."""
        return abs(self.times[-1] - self.times[0])

    @torch.no_grad()
    def reverse_error(self) -> float:
        """The error of the initial state after a backward solve from the last state, relative to its norm."""
        y0, end = self.states[0], self.solution.ys[-1]
        back = self.solve(end, self.ts[[-1, 0]]).ys[-1]
        return float((back - y0).norm() / y0.norm())


@final
@dataclass(frozen=True, kw_only=True)
class ProbeTrajectory(GradientMode):
    """Backpropagation that probes the first solve over a time span at `places` times.

    The solver restarts at each of these times, so that a fixed grid with fewer steps becomes finer.
    """

    exact: ClassVar[bool] = True
    through_autograd: ClassVar[bool] = True
    takes_breaks: ClassVar[bool] = True
    to_events: ClassVar[bool] = True
    places: int
    probes: list[TrajectoryProbe] = field(default_factory=list)  # empty, or the probe of the first such solve

    def solve(self, solver: Solver, problem: Problem) -> Solution:
        if problem.event is not None:
            raise IncompatibleChoice("diagnostics=flow looks at solves without events. Use diagnostics=none.")
        y0, ts, solve = problem.y0, problem.ts, partial(_solve, solver, problem)
        if self.probes or ts[-1] == ts[0]:
            return solve(y0, ts)
        with torch.no_grad():
            solution = solve(y0, ts)
        times = torch.linspace(float(ts[0]), float(ts[-1]), self.places, dtype=torch.float64).tolist()
        y0 = y0 if y0.requires_grad else y0.detach().requires_grad_()
        states, outputs, integrals = _through(times, solve, y0, ts, problem.field.names)
        self.probes.append(
            TrajectoryProbe(
                solver=solver, solve=solve, field=problem.field, ts=ts, solution=solution, times=times, states=states
            )
        )
        return replace(solution, ys=outputs, integrals=integrals)


def _through(
    times: Sequence[float], solve: Callable[[State, Times], Solution], y0: State, ts: Times, names: Sequence[str]
) -> tuple[list[State], Trajectory, dict[str, Tensor]]:
    """Solves from each of `times` to the next; returns states there, and states and integrals at the outputs `ts`."""
    states, outputs, qs = [y0], [y0], {name: [y0.new_zeros(len(y0))] for name in names}
    q = {name: parts[0] for name, parts in qs.items()}
    for begin, end in pairwise(times):
        due = _between(ts, begin, end)
        solution = solve(states[-1], ts.new_tensor([begin, *due, end]))
        states.append(solution.ys[-1])
        outputs += list(solution.ys[1:-1])
        for name, parts in solution.integrals.items():
            qs[name] += list(q[name] + parts[1:-1])
            q[name] = q[name] + parts[-1]
    integrals = {name: torch.stack([*parts, q[name]]) for name, parts in qs.items()}
    return states, torch.stack([*outputs, states[-1]]), integrals


def _solve(solver: Solver, problem: Problem, y0: State, ts: Times) -> Solution:
    """Solves from another initial state, at other times."""
    part = replace(problem, y0=y0, ts=ts)
    return solve_between_breaks(lambda solver, piece: solver.solve(piece.field, piece.y0, piece.ts), solver, part)


def _between(ts: Times, begin: float, end: float) -> list[float]:
    """Output times after `begin` and up to `end`, without the very first and last output time."""
    sign = 1 if end > begin else -1
    return [t for t in ts[1:-1].tolist() if sign * begin < sign * t <= sign * end]
