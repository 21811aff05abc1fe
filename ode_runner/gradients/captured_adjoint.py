"""The adjoint method on a GPU, with recorded steps forwards and backwards."""

from collections.abc import Sequence
from functools import partial
from typing import final

import torch
from torch import Tensor
from torch.func import functional_call

from ode_runner.compiling.captured_steps import RecordedSteps
from ode_runner.compiling.recorded_stepper import pair_of, stepping_recorded
from ode_runner.compiling.solves import CompiledSolve
from ode_runner.compiling.stepper import check_recordable
from ode_runner.errors import CannotCompile
from ode_runner.fields.counted_field import CountedField
from ode_runner.fields.ledger import Ledger
from ode_runner.gradients.continuous import solve_with_adjoint, split_adjoint
from ode_runner.gradients.vjp import gradients_of
from ode_runner.problem import Problem, Solution
from ode_runner.solvers.base import Solver
from ode_runner.types import State, Time


def capture_adjoint(forward: Solver, backward: Solver, problem: Problem, *, fuses: bool) -> CompiledSolve:
    """A solve and the solve of its adjoint equation by recorded steps, for problems like this one.

    Raises:
        CannotCompile: the field or the solver cannot be recorded.
    """
    field, y0 = problem.field, problem.y0.detach()
    check_recordable(problem)
    if field.names:
        raise CannotCompile(f"something is integrated along the solve: {', '.join(field.names)}")
    equation = _Equation(field, y0.shape)
    flat = torch.cat([part.reshape(-1) for part in (y0, torch.ones_like(y0), *equation.wanted(field.given))])
    fusing, leaves = [field.field] if fuses else [], [*equation.leaves.values()]
    there = RecordedSteps(pair_of(forward), equation.slope, y0, field.given, leaves=leaves, fusing=fusing)
    back = RecordedSteps(pair_of(backward), equation.adjoint, flat, field.given, leaves=leaves, fusing=fusing)
    return partial(_solve, there, back)


def _solve(there: RecordedSteps, back: RecordedSteps, problem: Problem) -> Solution:
    field = problem.field
    forward = stepping_recorded(there, field.ledger, field.given, dense=len(problem.ts) > 2)
    backward = stepping_recorded(back, field.ledger, field.given, dense=False)  # from each output to the previous one
    return solve_with_adjoint(forward, backward, Problem(field=field, y0=problem.y0.contiguous(), ts=problem.ts))


@final
class _Equation:
    """A field and its adjoint equation as functions, with leaves of their own that share the parameters' memory."""

    def __init__(self, field: CountedField, shape: torch.Size) -> None:
        self.shape, self.differentiated = shape, [z.requires_grad for z in field.given]
        self.counted = CountedField.around(field.field, Ledger(), dtype=field.dtype, attached=True)
        learned = {name: p for name, p in self.counted.named_parameters() if p.requires_grad}
        self.leaves = {name: p.detach().requires_grad_() for name, p in learned.items()}

    def slope(self, t: Time, y: State, *given: Tensor) -> State:
        return functional_call(self.counted, self.leaves, (t, y, *given))

    def adjoint(self, t: Time, flat: State, *given: Tensor) -> State:
        """d/dt of the flat (y, a, g), laid out as `AdjointField`'s."""
        y, a, _ = split_adjoint(flat, self.shape)
        with torch.enable_grad():
            y, given = y.detach().requires_grad_(), self._apart(given)
            dy = self.slope(t.detach(), y, *given)
            parts = gradients_of([dy], [y, *self.wanted(given)], [-a])
        return torch.cat([part.reshape(-1) for part in (dy.detach(), *parts)])

    def wanted(self, given: Sequence[Tensor]) -> list[Tensor]:
        """The parameters of g, in the order of `CountedField.leaves`."""
        return [*(z for z in given if z.requires_grad), *self.leaves.values()]

    def _apart(self, given: Sequence[Tensor]) -> tuple[Tensor, ...]:
        pairs = zip(given, self.differentiated, strict=True)
        return tuple(z.detach().requires_grad_(differentiated) for z, differentiated in pairs)
