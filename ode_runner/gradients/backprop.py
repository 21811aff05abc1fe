"""Backpropagation through the solver."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, final

from ode_runner.compiling.exact import compile_exact, compile_exact_piece
from ode_runner.compiling.solves import CompiledPiece, CompiledSolve
from ode_runner.gradients.base import GradientMode
from ode_runner.problem import Problem, Solution
from ode_runner.solvers.base import Solver


@final
@dataclass(frozen=True, kw_only=True)
class Backprop(GradientMode):
    """Differentiates the solver's own operations ("discretise, then optimise").

    Exact for the computed solution, without evaluations in the backward pass. Stores all intermediates of every
    accepted step, so that memory grows with the number of steps.

    Rumelhart, Hinton, Williams. Learning representations by back-propagating errors. Nature 323, 1986.
    """

    exact: ClassVar[bool] = True
    through_autograd: ClassVar[bool] = True
    each_sample: ClassVar[bool] = True
    to_events: ClassVar[bool] = True
    many_outputs: ClassVar[bool] = True

    def compiled(self, solver: Solver, problem: Problem, *, fuses: bool = False) -> CompiledSolve:
        return compile_exact(solver, problem, keeps=True, eager=partial(self.solve, solver), fuses=fuses)

    def compiled_piece(self, solver: Solver, problem: Problem) -> CompiledPiece:
        return compile_exact_piece(solver, problem)

    def solve(self, solver: Solver, problem: Problem) -> Solution:
        return solver.solve(problem.field, problem.y0, problem.ts)
