"""The continuous adjoint."""

from dataclasses import dataclass
from typing import ClassVar, final

from ode_runner.compiling.solves import CompiledPiece, CompiledSolve
from ode_runner.errors import CannotCompile
from ode_runner.gradients.base import GradientMode
from ode_runner.gradients.compiled_adjoint import compile_adjoint, compile_adjoint_piece
from ode_runner.gradients.continuous import backward_solver, block_sizes, check_a_use, solve_with_adjoint
from ode_runner.gradients.stochastic_adjoint import solve_with_stochastic_adjoint
from ode_runner.problem import Problem, Solution
from ode_runner.solvers.base import Solver
from ode_runner.solvers.implicit.implicit import ImplicitSolver
from ode_runner.solvers.steps_to_event import without_event
from ode_runner.solvers.stochastic import StratonovichRungeKutta


@final
@dataclass(frozen=True, kw_only=True)
class Adjoint(GradientMode):
    """Solves the adjoint ODE backwards in time ("optimise, then discretise").

    Memory is constant in the number of steps. The state is recomputed backwards. So the gradient is that of the
    continuous problem, up to the tolerance of the backward solve, not that of the computed solution: expect errors for
    stiff or strongly contracting fields. Every stage of the backward solve evaluates the field. A stochastic equation
    is solved backwards along the same Brownian path, by a Stratonovich solver.

    `rtol` and `atol` are the tolerances of the backward solve; None: those of the solver.

    Chen, Rubanova, Bettencourt, Duvenaud. Neural Ordinary Differential Equations. NeurIPS 2018, Algorithm 1.
    """

    rtol: float | None
    atol: float | None

    excludes: ClassVar[tuple[type, ...]] = (ImplicitSolver,)
    requirement: ClassVar[str] = (
        "an explicit solver that takes any field, because it solves a larger equation backwards; or, for stochastic "
        "equations, heun_sde or midpoint_sde, which take Stratonovich's and start every step anew"
    )
    own_derivative: ClassVar[bool] = True
    solves_an_adjoint: ClassVar[bool] = True
    exact: ClassVar[bool] = False
    to_events: ClassVar[bool] = True

    @classmethod
    def takes(cls, solver: type[Solver]) -> bool:
        return issubclass(solver, StratonovichRungeKutta) or super().takes(solver)

    def check(self, solver: Solver) -> None:
        check_a_use(solver, rtol=self.rtol, atol=self.atol)

    def compiled(self, solver: Solver, problem: Problem, *, fuses: bool = False) -> CompiledSolve:
        if isinstance(solver, StratonovichRungeKutta):
            raise CannotCompile("the adjoint of a stochastic equation has no compiled steps")
        return compile_adjoint(solver, self._backward(solver, problem), problem, fuses=fuses)

    def compiled_piece(self, solver: Solver, problem: Problem) -> CompiledPiece:
        return compile_adjoint_piece(solver, self._backward(solver, problem), problem)

    def solve(self, solver: Solver, problem: Problem) -> Solution:
        if isinstance(solver, StratonovichRungeKutta):
            check_a_use(solver, rtol=self.rtol, atol=self.atol)
            return solve_with_stochastic_adjoint(solver, problem)
        return solve_with_adjoint(solver, self._backward(without_event(solver), problem), problem)

    def _backward(self, solver: Solver, problem: Problem) -> Solver:
        return backward_solver(solver, block_sizes(problem.field, problem.y0), rtol=self.rtol, atol=self.atol)
