"""What a model poses, without a solve."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, final

import torch
from torch import nn

from ode_runner.gradients.base import GradientMode
from ode_runner.problem import Problem, Solution
from ode_runner.solvers.base import Solver


@final
@dataclass(frozen=True, kw_only=True)
class RecordProblems(GradientMode):
    """Solves nothing: keeps each problem, and gives the initial state at every time, and zero for every integral."""

    exact: ClassVar[bool] = False
    through_autograd: ClassVar[bool] = True
    as_posed: ClassVar[bool] = True
    to_events: ClassVar[bool] = True
    problems: list[Problem] = field(default_factory=list)

    def solve(self, solver: Solver, problem: Problem) -> Solution:
        self.problems.append(problem)
        y0, times = problem.y0, len(problem.ts)
        nothing = y0.new_zeros(times, len(y0)) if problem.field.names else y0
        return Solution(ys=torch.stack([y0] * times), integrals=dict.fromkeys(problem.field.names, nothing))


def in_turn(problems: Sequence[Problem]) -> list[list[Problem]]:
    """The problems in groups of one field each: of the same parameters, whatever else it is made with for a solve."""
    groups = dict[tuple[type, tuple[int, ...]], list[Problem]]()
    for problem in problems:
        field = problem.field.field
        weights = tuple(id(weight) for weight in field.parameters()) if isinstance(field, nn.Module) else ()
        groups.setdefault((type(field), weights), []).append(problem)
    return list(groups.values())
