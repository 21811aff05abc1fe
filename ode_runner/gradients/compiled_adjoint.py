"""The adjoint ODE with compiled steps, there and back."""

from collections.abc import Sequence
from functools import partial
from typing import final

import torch
from torch import Tensor
from torch.func import vjp

from ode_runner.compiling.packing import Packing
from ode_runner.compiling.solves import CompiledSolve
from ode_runner.compiling.stepper import compilable, stepping_by, steps_of
from ode_runner.compiling.steps import CompiledSteps
from ode_runner.compiling.values import Equation, Values
from ode_runner.counted_field import CountedField
from ode_runner.gradients.captured_adjoint import capture_adjoint
from ode_runner.gradients.continuous import (
    AdjointEquation,
    adjoint_slopes,
    solve_with_adjoint,
    split_adjoint,
    split_like,
)
from ode_runner.problem import Problem, Solution
from ode_runner.solvers.base import Solver
from ode_runner.types import State, Time


def compile_adjoint(forward: Solver, backward: Solver, problem: Problem, *, fuses: bool = False) -> CompiledSolve:
    """For problems like this one: both solves by compiled steps; on a GPU by recorded ones.

    There the field is compiled into fused kernels first if `fuses` says so.

    Raises:
        CannotCompile: the field or the solver does not allow it.
    """
    if problem.y0.device.type == "cuda":
        return capture_adjoint(forward, backward, problem, fuses=fuses)
    there, values = steps_of(forward, problem)
    found = [value.detach() for value in values.tensors(problem.field)]
    y0 = problem.y0.detach()
    flat = torch.cat([part.reshape(-1) for part in (y0, torch.ones_like(y0), *found[: values.learned])])
    equation = partial(_slopes, values.equation(problem.field), y0.shape, values.learned)
    back = CompiledSteps(compilable(backward), equation, flat, found, learned=values.learned)
    return partial(_solve, values, there, back)


def _solve(values: Values, there: CompiledSteps, back: CompiledSteps, problem: Problem) -> Solution:
    field = problem.field
    theta = there.packing.pack([value.detach() for value in values.tensors(field)])
    forward, backward = (stepping_by(steps, field.ledger, theta) for steps in (there, back))
    problem = Problem(field=field, y0=problem.y0.contiguous(), ts=problem.ts)
    return solve_with_adjoint(forward, backward, problem, adjoint=partial(_PackedAdjoint, there.learned))


@final
class _PackedAdjoint(AdjointEquation):
    """g lies as compiled steps pack it."""

    def __init__(self, packing: Packing, field: CountedField, parameters: Sequence[Tensor], shape: torch.Size) -> None:
        super().__init__()
        self.packing, self.field, self.wanted, self.shape = packing, field, parameters, shape

    def gradients(self, g: Tensor) -> list[Tensor]:
        return self.packing.unpack(g)

    def forward(self, t: Time, y: State) -> State:
        """Eagerly, where nothing is compiled for what is asked."""
        y, a, _ = self.split(y)
        dy, slopes = adjoint_slopes(self.field, t, y, a, None, self.wanted)
        da, of_values = slopes[: a.numel()], slopes[a.numel() :]
        return torch.cat([dy.reshape(-1), da, self.packing.pack(split_like(of_values, self.wanted))])


def _slopes(
    field: Equation, shape: torch.Size, learned: int, t: Time, flat: Tensor, values: Sequence[Tensor]
) -> Tensor:
    y, a, _ = split_adjoint(flat, shape)
    fixed = values[learned:]
    slope = vjp(lambda y, *some: field(t, y, [*some, *fixed]), y, *values[:learned])
    dy, (da, *parts) = slope[0], slope[1](-a)
    return torch.cat([dy.reshape(-1), da.reshape(-1), Packing(values[:learned]).pack(parts)])
