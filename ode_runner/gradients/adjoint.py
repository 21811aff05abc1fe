"""The continuous adjoint."""

from dataclasses import dataclass, replace
from typing import ClassVar, final

from ode_runner.errors import IncompatibleChoice
from ode_runner.field import CountedField
from ode_runner.gradients.base import GradientMode
from ode_runner.gradients.continuous import block_norm, block_sizes, solve_with_adjoint
from ode_runner.solvers.base import AdaptiveSolver, Solution, Solver
from ode_runner.types import State, Times


@final
@dataclass(frozen=True, kw_only=True)
class Adjoint(GradientMode):
    """Solves the adjoint ODE backwards in time ("optimise, then discretise").

    Memory is constant in the number of steps. The state is recomputed backwards, so the gradient is that of the
    continuous problem up to the backward solve's tolerance, not that of the computed solution: expect drift on
    stiff or strongly contracting fields, and an evaluation of the field for every stage of the way back.

    `rtol` and `atol` are those of the backward solve; None takes the solver's own.

    Chen, Rubanova, Bettencourt, Duvenaud. Neural Ordinary Differential Equations. NeurIPS 2018, Algorithm 1.
    """

    rtol: float | None
    atol: float | None

    exact: ClassVar[bool] = False

    def demand(self, solver: Solver) -> None:
        if not isinstance(solver, AdaptiveSolver) and (self.rtol is not None or self.atol is not None):
            raise IncompatibleChoice(
                "gradient.rtol and gradient.atol need an adaptive solver; a fixed grid has no tolerance. "
                "Leave them null, or use solver=dopri5."
            )

    def solve(self, solver: Solver, field: CountedField, y0: State, ts: Times) -> Solution:
        self.demand(solver)
        backward = solver
        if isinstance(solver, AdaptiveSolver):
            norm = block_norm(block_sizes(field, y0))
            backward = replace(solver, rtol=self.rtol or solver.rtol, atol=self.atol or solver.atol, norm=norm)
        return solve_with_adjoint(solver, backward, field, y0, ts)
