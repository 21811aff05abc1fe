"""A mode that records the problems of a model without solving them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from ode_runner.fields.structured_field import kind_of
from ode_runner.gradients.base import GradientMode
from ode_runner.problem import Problem, Solution
from ode_runner.solvers.base import Solver


@final
@dataclass(frozen=True, kw_only=True)
class RecordProblems(GradientMode):
    """Stores each problem; its solution is the initial state at every time, and zero for every integral.

    The outputs require a gradient if those of a solve would, so that problems that start from them do so, too.
    """

    exact: ClassVar[bool] = False
    through_autograd: ClassVar[bool] = True
    takes_breaks: ClassVar[bool] = True
    to_events: ClassVar[bool] = True
    problems: list[Problem] = field(default_factory=list)

    def solve(self, solver: Solver, problem: Problem) -> Solution:
        self.problems.append(problem)
        y0, times = problem.y0, len(problem.ts)
        nothing = y0.new_zeros(times, len(y0)) if problem.field.names else y0
        ys = torch.stack([y0] * times)
        if torch.is_grad_enabled() and any(z.requires_grad for z in problem.field.leaves()) and not ys.requires_grad:
            ys = ys.requires_grad_().clone()
        return Solution(ys=ys, integrals=dict.fromkeys(problem.field.names, nothing))


def in_turn(problems: Sequence[Problem]) -> list[list[Problem]]:
    """The problems, grouped by field; equal fields count as one, because a model may make a new one for every solve."""
    groups = list[list[Problem]]()
    for problem in problems:
        group = next((group for group in groups if _of_one_field(group[0], problem)), None)
        if group is None:
            groups.append([problem])
        else:
            group.append(problem)
    return groups


def _of_one_field(one: Problem, other: Problem) -> bool:
    """Whether both fields have the same type and parameters and, if they are two objects, the same values."""
    ours, theirs = one.field.field, other.field.field
    if ours is theirs:
        return True
    if type(ours) is not type(theirs) or _weights(ours) != _weights(theirs):
        return False
    if "forward" not in kind_of(ours).call_weights:
        return True
    if one.y0.shape[1:] != other.y0.shape[1:]:  # they cannot be compared at one state
        return bool(_weights(ours))
    return all(torch.equal(_at(problem, ours), _at(problem, theirs)) for problem in (one, other))


def _weights(field: object) -> list[int]:
    return [id(weight) for weight in field.parameters()] if isinstance(field, nn.Module) else []


@torch.no_grad()
def _at(problem: Problem, field: Any) -> Tensor:
    """The field's values at and beside the initial state, where it may be 0; NaN is replaced by 0."""
    given, t = problem.field.of_field(problem.field.given), problem.ts[0].to(problem.y0)
    around = [problem.y0, problem.y0 + torch.linspace(0.1, 0.7, problem.y0.numel()).view_as(problem.y0).to(problem.y0)]
    return torch.stack([field(t, y, *given) for y in around]).nan_to_num()
