"""The continuous adjoint under a seminorm."""

from dataclasses import dataclass
from typing import ClassVar, final

from ode_runner.compiling.solves import CompiledPiece, CompiledSolve
from ode_runner.errors import IncompatibleChoice
from ode_runner.gradients.base import GradientMode
from ode_runner.gradients.compiled_adjoint import compile_adjoint, compile_adjoint_piece
from ode_runner.gradients.continuous import backward_solver, block_sizes, check_a_use, solve_with_adjoint
from ode_runner.problem import Problem, Solution
from ode_runner.solvers.base import AdaptiveSolver, Solver
from ode_runner.solvers.implicit.implicit import ImplicitSolver


@final
@dataclass(frozen=True, kw_only=True)
class Seminorm(GradientMode):
    """The adjoint method, with step control that ignores the parameter integral, on which nothing else depends.

    The gradient is the same within the tolerance, with fewer backward steps.

    Kidger, Chen, Lyons. "Hey, that's not an ODE": Faster ODE Adjoints via Seminorms. ICML 2021.
    """

    rtol: float | None
    atol: float | None

    requires: ClassVar[type] = AdaptiveSolver
    excludes: ClassVar[tuple[type, ...]] = (ImplicitSolver,)
    requirement: ClassVar[str] = "an adaptive solver that is explicit, whose step control it relaxes"
    solves_an_adjoint: ClassVar[bool] = True
    exact: ClassVar[bool] = False

    def check(self, solver: Solver) -> None:
        check_a_use(solver, rtol=self.rtol, atol=self.atol)

    def compiled(self, solver: Solver, problem: Problem, *, fuses: bool = False) -> CompiledSolve:
        return compile_adjoint(solver, self._backward(solver, problem), problem, fuses=fuses)

    def compiled_piece(self, solver: Solver, problem: Problem) -> CompiledPiece:
        return compile_adjoint_piece(solver, self._backward(solver, problem), problem)

    def solve(self, solver: Solver, problem: Problem) -> Solution:
        if not isinstance(solver, AdaptiveSolver):
            raise IncompatibleChoice(f"gradient=seminorm needs {self.requirement}.")
        return solve_with_adjoint(solver, self._backward(solver, problem), problem)

    def _backward(self, solver: Solver, problem: Problem) -> Solver:
        sizes = block_sizes(problem.field, problem.y0)[:2]  # without that of the parameters
        return backward_solver(solver, sizes, rtol=self.rtol, atol=self.atol)
