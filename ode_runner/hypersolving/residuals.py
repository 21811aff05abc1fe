"""The local errors of a method's steps along the accurate solutions of a model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple, final

import torch
from torch import Tensor

from ode_runner.devices.transfer import read_times
from ode_runner.errors import IncompatibleChoice
from ode_runner.fields.counted_field import CountedField
from ode_runner.gradients.base import GradientMode
from ode_runner.gradients.breaks import solve_between_breaks
from ode_runner.problem import Problem, Solution
from ode_runner.solvers.base import Solver
from ode_runner.solvers.runge_kutta import FixedStepRungeKutta
from ode_runner.types import State, Trajectory


class Residuals(NamedTuple):
    """Local errors of steps; the first axis of every tensor is the step of a sample."""

    t: Tensor  # (step,), at the beginning of the step
    dt: Tensor  # (step,)
    y: State
    dy: State  # f(t, y)
    given: Sequence[Tensor]  # what the field receives after time and state
    error: State  # of the step of length dt from the accurate solution, divided by dt ** (p + 1)

    def chosen(self, places: Tensor) -> "Residuals":
        """The residuals with these indices."""
        return self._each(lambda x: x[places])

    def to(self, dtype: torch.dtype) -> "Residuals":
        """The residuals in another precision; integers among `given` stay integers."""
        return self._each(lambda x: x.to(dtype) if x.is_floating_point() else x)

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Residuals":
        given = [change(z) for z in self.given]
        t, dt, y, dy, error = (change(x) for x in (self.t, self.dt, self.y, self.dy, self.error))
        return Residuals(t, dt, y, dy, given, error)


def joined(parts: Sequence[Residuals]) -> Residuals:
    """The residuals of several steps as one."""
    given = [torch.cat(each) for each in zip(*(part.given for part in parts), strict=True)]
    names = ("t", "dt", "y", "dy", "error")
    t, dt, y, dy, error = (torch.cat([getattr(part, name) for part in parts]) for name in names)
    return Residuals(t, dt, y, dy, given, error)


@final
@dataclass(frozen=True, kw_only=True)
class MeasureResiduals(GradientMode):
    """Solves by the solver, which is accurate, and keeps the residuals of methods from its states. Leaves no graph."""

    exact: ClassVar[bool] = True
    through_autograd: ClassVar[bool] = True
    methods: Sequence[FixedStepRungeKutta]  # one method with several numbers of steps
    found: list[Residuals] = field(default_factory=list)  # of each step of each solve, in single precision
    fields: list[CountedField] = field(default_factory=list)  # of each solve

    @torch.no_grad()
    def solve(self, solver: Solver, problem: Problem) -> Solution:
        check_states_alone(problem)
        self.fields.append(problem.field)
        asked = read_times(problem.ts)
        steps = [(method, step) for method in self.methods for step in method.grid_steps(problem.ts)]
        times = sorted({*asked, *(step.t1 for _, step in steps)}, reverse=asked[-1] < asked[0])
        states = solver.solve(problem.field, problem.y0, problem.ts.new_tensor(times, dtype=torch.float64)).ys
        at = dict(zip(times, states, strict=True))
        for method, step in steps:
            if step.t0 != step.t1:
                found = _of_step(method, problem.field, step.t0, step.t1, at[step.t0], at[step.t1])
                self.found.append(found.to(torch.float32))
        return Solution(ys=torch.stack([at[t] for t in asked]))


def _of_step(method: FixedStepRungeKutta, field: CountedField, t0: float, t1: float, y: State, end: State) -> Residuals:
    dy = method.slope(field, t0, y)
    reached, _ = method.step(field, t0, t1, y, dy)
    t, dt = y.new_full((len(y),), t0), y.new_full((len(y),), t1 - t0)
    error = (end - reached) / (t1 - t0) ** (method.order + 1)
    return Residuals(t, dt, y, dy, field.of_field(field.arguments()), error)


@final
@dataclass(frozen=True, kw_only=True)
class RecordStates(GradientMode):
    """Solves by the solver, and keeps the states of every solve at its output times. Leaves no graph."""

    exact: ClassVar[bool] = True
    through_autograd: ClassVar[bool] = True
    takes_breaks: ClassVar[bool] = True  # solvers differ in the breaks at which they begin anew
    found: list[Trajectory] = field(default_factory=list)

    @torch.no_grad()
    def solve(self, solver: Solver, problem: Problem) -> Solution:
        check_states_alone(problem)
        solution = solve_between_breaks(_solved, solver, problem)
        self.found.append(solution.ys)
        return solution


def _solved(solver: Solver, problem: Problem) -> Solution:
    return solver.solve(problem.field, problem.y0, problem.ts)


def check_states_alone(problem: Problem) -> None:
    """Raises IncompatibleChoice for integrals, which corrected steps do not compute, and for states of one number."""
    if problem.y0.dim() < 2:
        raise IncompatibleChoice(
            f"hypersolve= corrects states (batch, ...), and these are of shape {tuple(problem.y0.shape)}. Give each "
            "sample an axis: (batch, 1)."
        )
    if problem.field.names:
        raise IncompatibleChoice(
            f"hypersolve= corrects states, and these solves also compute {', '.join(problem.field.names)} along the "
            "way. Name a run whose solves compute states alone, such as one of model=odenet."
        )
