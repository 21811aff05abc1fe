"""The adjoint ODE with compiled steps, there and back."""

from collections.abc import Sequence
from functools import partial
from typing import final

import torch
from torch import Tensor
from torch.func import vjp

from ode_runner.compiling.field import CompiledField, compilable, equation_of, steps_of
from ode_runner.compiling.packing import Packing
from ode_runner.compiling.steps import CompiledSteps, Equation
from ode_runner.counted_field import CountedField
from ode_runner.errors import CannotCompile
from ode_runner.field import VectorField
from ode_runner.gradients.base import CompiledSolve
from ode_runner.gradients.continuous import AdjointEquation, solve_with_adjoint, split_adjoint
from ode_runner.problem import Problem, Solution
from ode_runner.solvers.base import Solver
from ode_runner.types import State, Time, Times


def compile_adjoint(forward: Solver, backward: Solver, field: VectorField, y0: State) -> CompiledSolve:
    """For states like `y0`: both solves by compiled steps.

    Raises:
        CannotCompile: the field or the solver does not allow it.
    """
    there, theta = steps_of(forward, field, y0), [p.detach() for p in field.parameters()]
    if not all(p.requires_grad for p in field.parameters()):
        raise CannotCompile("some of the field's parameters are not learned")
    flat = torch.cat([y0.detach().reshape(-1), torch.ones_like(y0).reshape(-1), *(p.reshape(-1) for p in theta)])
    equation = partial(_slopes, equation_of(field), y0.shape)
    back = CompiledSteps(compilable(backward), equation, flat, theta)
    return partial(_solve, forward, backward, there, back)


def _solve(
    forward: Solver,
    backward: Solver,
    there: CompiledSteps,
    back: CompiledSteps,
    field: CountedField,
    y0: State,
    ts: Times,
) -> Solution:
    way = CompiledField(field, there, there.packing.pack([p.detach() for p in field.parameters()]))
    problem = Problem(field=way, y0=y0.contiguous(), ts=ts)
    return solve_with_adjoint(forward, backward, problem, adjoint=partial(_CompiledAdjoint, back))


@final
class _CompiledAdjoint(CompiledField, AdjointEquation):
    """g lies as the parameters are packed."""

    def __init__(
        self, steps: CompiledSteps, field: CountedField, parameters: Sequence[Tensor], shape: torch.Size
    ) -> None:
        super().__init__(field, steps, steps.packing.pack(parameters))
        self.shape = shape

    def gradients(self, g: Tensor) -> list[Tensor]:
        return self.steps.packing.unpack(g)


def _slopes(field: Equation, shape: torch.Size, t: Time, flat: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    y, a, _ = split_adjoint(flat, shape)
    slope = vjp(lambda y, *values: field(t, y, values), y, *parameters)
    da, *parts = slope[1](-a)
    return torch.cat([slope[0].reshape(-1), da.reshape(-1), Packing(parameters).pack(parts)])
