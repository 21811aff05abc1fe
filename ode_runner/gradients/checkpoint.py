"""Backpropagation that stores accepted states only and recomputes their steps in the backward pass."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, final

import torch
from torch import Tensor

from ode_runner.compiling.exact import compile_exact, compile_exact_piece
from ode_runner.compiling.solves import CompiledPiece, CompiledSolve
from ode_runner.errors import IncompatibleChoice
from ode_runner.gradients.base import GradientMode
from ode_runner.gradients.recomputation import StepVJP, solve_and_recompute
from ode_runner.gradients.recomputation_per_sample import solve_and_recompute_per_sample
from ode_runner.problem import Problem, Solution
from ode_runner.solvers.base import Solver
from ode_runner.solvers.one_step import StepwiseSolver
from ode_runner.solvers.per_sample import PerSampleStepping


@final
@dataclass(frozen=True, kw_only=True)
class Checkpoint(GradientMode):
    """Backpropagation with the graph of only one step in memory at a time.

    Exact for the computed solution. Stores one state per accepted step and nothing of rejected ones. The backward pass
    evaluates the stages of every accepted step again, and, for outputs inside a step, f(t1, y1) and the tableau's
    places. A field that draws random numbers draws the same ones again, with explicit fixed steps; other solvers refuse
    such a field.

    Zhuang, Dvornek, Li, Tatikonda, Papademetris, Duncan. Adaptive Checkpoint Adjoint Method for Gradient
    Estimation in Neural ODE. ICML 2020.
    """

    requires: ClassVar[type] = StepwiseSolver
    requirement: ClassVar[str] = "a Runge-Kutta or symplectic solver, whose steps can be taken one at a time"
    exact: ClassVar[bool] = True
    takes_complex: ClassVar[bool] = True
    redraws: ClassVar[bool] = True
    each_sample: ClassVar[bool] = True
    to_events: ClassVar[bool] = True

    def compiled(self, solver: Solver, problem: Problem, *, fuses: bool = False) -> CompiledSolve:
        return compile_exact(solver, problem, keeps=False, eager=partial(self.solve, solver), fuses=fuses)

    def compiled_piece(self, solver: Solver, problem: Problem) -> CompiledPiece:
        return compile_exact_piece(solver, problem)

    def solve(self, solver: Solver, problem: Problem) -> Solution:
        if not isinstance(solver, StepwiseSolver):
            raise IncompatibleChoice(f"gradient=checkpoint needs {self.requirement}.")
        if isinstance(solver, PerSampleStepping) and solver.per_sample:
            return solve_and_recompute_per_sample(solver, problem)
        return solve_and_recompute(solver, problem, pull_back=_pull_back)


def _pull_back(step: StepVJP[StepwiseSolver]) -> Sequence[Tensor]:
    """Pull cotangents back through one step, which is recomputed with a graph."""
    solver, field, place, y0, cotangents, of_integrals, parameters, _ = step
    with torch.enable_grad():
        y0 = y0.detach().requires_grad_()
        again = solver.recompute(field, place, y0)
        outputs, gains = [again.y1, *solver.outputs(again)], solver.gains(field, again)
    moving = [(gain, c) for gain, c in zip(gains, of_integrals, strict=True) if gain.requires_grad]
    outputs, cotangents = [*outputs, *(gain for gain, _ in moving)], [*cotangents, *(c for _, c in moving)]
    return torch.autograd.grad(outputs, [y0, *parameters], cotangents, allow_unused=True, materialize_grads=True)
