"""Jacobians computed independently for an audit's references, so that they do not share an implicit solver's errors."""

from dataclasses import dataclass, replace
from typing import ClassVar, final

import torch
from torch import Tensor
from torch.autograd.functional import jacobian

from ode_runner.field import KnownJacobian
from ode_runner.fields.counted_field import CountedField
from ode_runner.gradients.base import GradientMode
from ode_runner.problem import Problem, Solution
from ode_runner.solvers.base import Solver
from ode_runner.solvers.implicit.implicit import ImplicitSolver
from ode_runner.types import State, Time

LARGEST = 20_000_000  # numbers in the Jacobians of all samples, 160 MB; above, the solver's own products are used


@final
@dataclass(frozen=True, kw_only=True)
class IndependentJacobians(GradientMode):
    """Wraps a gradient mode; for implicit solvers, the field's Jacobians are computed by PyTorch.

    An implicit stage is differentiated with the Jacobian at its solution. If that Jacobian were wrong, the gradient and
    any reference that uses the same Jacobian would be equally wrong.
    """

    exact: ClassVar[bool] = True
    through_autograd: ClassVar[bool] = True
    to_events: ClassVar[bool] = True
    mode: GradientMode

    def solve(self, solver: Solver, problem: Problem) -> Solution:
        y0 = problem.y0
        if isinstance(solver, ImplicitSolver) and len(y0) * y0[:1].numel() ** 2 <= LARGEST:
            problem = replace(problem, field=_ByPyTorch(problem.field))
        return self.mode.solve(solver, problem)


@final
class _ByPyTorch(CountedField, KnownJacobian):
    def __init__(self, counted: CountedField) -> None:
        super().__init__(counted.field, counted.ledger, **counted.options() | {"attached": True})

    def jacobian(self, t: Time, y: State) -> Tensor:
        def total(place: State) -> Tensor:  # samples do not interact, so that derivatives of the sum separate
            return self(t, place).reshape(len(place), -1).sum(dim=0)

        with torch.enable_grad():
            by_element: Tensor = jacobian(total, y)
        return by_element.reshape(len(by_element), len(y), -1).transpose(0, 1)
