"""The steps of one solve, taken again in another precision."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar, final

import torch

from ode_runner.field import CountedField
from ode_runner.gradients.base import GradientMode
from ode_runner.solvers.base import Solution, Solver
from ode_runner.solvers.one_step import Interval, OneStepSolver
from ode_runner.types import State, Times


@final
@dataclass(frozen=True, kw_only=True)
class Noted(GradientMode):
    """Differentiates nothing, and notes the accepted steps of every solve of a one-step method."""

    exact: ClassVar[bool] = False
    courses: list[list[Interval]] = field(default_factory=list)

    @torch.no_grad()
    def solve(self, solver: Solver, field: CountedField, y0: State, ts: Times) -> Solution:
        if not isinstance(solver, OneStepSolver):
            return solver.solve(field, y0, ts)
        ys, course = [y0], list[Interval]()
        for step in solver.steps(field, y0, ts):
            ys += solver.outputs(step)
            course.append(step.interval)
        self.courses.append(course)
        return Solution(ys=torch.stack(ys), accepted=len(course))


@final
@dataclass(frozen=True, kw_only=True)
class Retaken(GradientMode):
    """Backpropagation through the steps noted, solve by solve in their order, whatever step control would choose now.

    So rounding cannot decide otherwise on a step size, which would make another solution within tolerance. Methods
    that are not one-step have fixed grids, and are solved as they are.
    """

    exact: ClassVar[bool] = True
    courses: Iterator[list[Interval]]

    def solve(self, solver: Solver, field: CountedField, y0: State, ts: Times) -> Solution:
        if not isinstance(solver, OneStepSolver):
            return solver.solve(field, y0, ts)
        ys, course = [y0], next(self.courses)
        for place in course:
            y0, due = solver.retake(field, place, y0)
            ys += due
        return Solution(ys=torch.stack(ys), accepted=len(course), rejected=sum(place.rejected for place in course))
