"""A solve as one autograd function, with a derivative that the gradient mode defines."""

import abc
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ode_runner.errors import RefusedInput
from ode_runner.fields.counted_field import CountedField
from ode_runner.gradients.field_checks import fixed_buffers
from ode_runner.problem import Solution
from ode_runner.solvers.first_order import OF_A_SOLVE, first_order
from ode_runner.types import State, Times, Trajectory


class SolveRule(abc.ABC):
    """A solve without a graph, and its vector-Jacobian product.

    One object serves one solve. `solve` returns the tensors that `pull_back` needs, so that autograd stores and frees
    them; everything else the object stores itself.
    """

    @abc.abstractmethod
    def solve(self, field: CountedField, y0: State, ts: Times) -> tuple[Solution, Sequence[Tensor]]:
        """The solution, and the tensors to store for `pull_back`."""

    @abc.abstractmethod
    def pull_back(
        self, field: CountedField, kept: Sequence[Tensor], parameters: Sequence[Tensor], dys: Tensor, dqs: Tensor
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """dL/dy0, and dL/dp for each of the parameters.

        Args:
            field: the field of the solve.
            kept: the tensors that `solve` returned.
            parameters: the leaves of the field: its parameters, and the tensors given to it.
            dys: dL/dy at the output times, (time, batch, *state).
            dqs: dL/dq of the integrals there, (time, batch, integral); (time, 0) if there are none.
        """


def solve_by_rule(rule: SolveRule, field: CountedField, y0: State, ts: Times) -> Solution:
    """The solution, whose first derivative is that of the rule; it has no second derivative."""
    solved: list[Solution] = []  # an autograd function returns tensors only; this returns the rest of the solution
    ys, qs = _RuledSolve.apply(rule, field, solved, y0, ts, *field.inputs())
    return replace(solved[0], ys=ys, integrals=field.named(qs))


class _RuledSolve(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        rule: SolveRule,
        field: CountedField,
        solved: list[Solution],
        y0: State,
        ts: Times,
        *inputs: Tensor,
    ) -> tuple[Trajectory, Tensor]:
        solution, kept = rule.solve(field, y0.detach(), ts)
        solved.append(solution)
        ctx.rule, ctx.field, ctx.kept = rule, field, len(kept)
        fixed = [x for x in (*field.arguments(), *field.parameters()) if not x.requires_grad]
        ctx.read = _versions([ts, *fixed, *fixed_buffers(field.field)])
        ctx.inputs = (y0, *inputs)
        ctx.save_for_backward(*kept, *field.leaves())
        return solution.ys, field.stacked(solution.integrals, solution.ys)

    @staticmethod
    @first_order(OF_A_SOLVE)
    def backward(ctx: Any, dys: Tensor, dqs: Tensor) -> tuple[Tensor | None, ...]:
        _check_unchanged(ctx.read)
        saved = ctx.saved_tensors  # read once: torch.utils.checkpoint refuses to unpack them a second time
        kept, parameters = saved[: ctx.kept], saved[ctx.kept :]
        dy0, gradients = ctx.rule.pull_back(ctx.field, kept, parameters, dys, dqs)
        return None, None, None, dy0, None, *gradients


def _versions(tensors: Sequence[Tensor]) -> list[tuple[Tensor, int]]:
    """Tensors with their version counters, which autograd does not check here; inference tensors have none."""
    return [(x, x._version) for x in tensors if not x.is_inference()]


def _check_unchanged(read: Sequence[tuple[Tensor, int]]) -> None:
    """Raises RefusedInput if one of the tensors was changed in place since."""
    if any(x._version != version for x, version in read):
        raise RefusedInput(
            "the times of a solve, or what its field was given or holds without a gradient, were written into between "
            "the solve and its backward pass, which reads them again. Hand over a copy, such as labels.clone()."
        )
