"""What implicit one-step solvers share."""

from dataclasses import dataclass, replace

from ode_runner.field import VectorField
from ode_runner.first_order import OF_A_SOLVE, differentiable_once
from ode_runner.solvers.base import Solution, demand_batch
from ode_runner.solvers.one_step import OneStepSolver
from ode_runner.types import State, Times


@dataclass(frozen=True, kw_only=True)
class ImplicitSolver(OneStepSolver):
    """Some stages are equations of the size of the state, solved by Newton's method.

    How many evaluations that takes depends on the field and cannot be predicted. Up to 512 equations a sample are
    factorised; more are solved by GMRES without a matrix, which is for fields that are not very stiff: the number of
    products grows with the root of the stiffness where the Jacobian is symmetric.
    """

    def solve(self, field: VectorField, y0: State, ts: Times) -> Solution:
        solution = super().solve(field, y0, ts)
        return replace(
            solution, ys=differentiable_once(solution.ys, OF_A_SOLVE)
        )  # Newton's last Jacobian is held fixed

    def demand_state(self, y0: State) -> None:
        demand_batch(y0)
