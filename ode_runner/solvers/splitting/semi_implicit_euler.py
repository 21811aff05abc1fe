"""The semi-implicit (symplectic) Euler method."""

from dataclasses import dataclass, field
from typing import ClassVar, final

import torch

from ode_runner.errors import IncompatibleChoice
from ode_runner.field import VectorField
from ode_runner.fields.counted_field import fitted
from ode_runner.fields.structured_field import SecondOrderField
from ode_runner.solvers.grid_step import GridStepSolver
from ode_runner.solvers.tableau import time_tensor
from ode_runner.types import State


@final
@dataclass(frozen=True, kw_only=True)
class SemiImplicitEuler(GridStepSolver):
    """v1 = v0 + dt force(t0, q0, v0), q1 = q0 + dt v1: order 1, one evaluation per step.

    Symplectic if the force is the gradient of a potential. With friction, force = -friction v - gradient(q), it is
    gradient descent with momentum 1 - friction dt and learning rate dt^2.

    Hairer, Lubich, Wanner. Geometric Numerical Integration. Springer 2006, I.1.2. · Polyak. Some methods of speeding up
    the convergence of iteration methods. 1964.
    """

    kind: ClassVar[str] = "of fixed step and for fields of second order"
    fields: ClassVar[type] = SecondOrderField
    fields_in_words: ClassVar[str] = (
        "a field of second order, q' = v and v' = f(t, q, v), such as that of model=second_order"
    )
    example: ClassVar[str] = "task=closed_form task.problem=heavy_ball"
    order: int = field(default=1, init=False)

    def step(self, field: VectorField, t0: float, t1: float, y0: State) -> State:
        if not isinstance(field, SecondOrderField):
            raise IncompatibleChoice(f"SemiImplicitEuler needs {self.fields_in_words}. Use solver=rk4.")
        q, v = y0.chunk(2, dim=1)
        v = torch.add(v, fitted(field.force(time_tensor(t0, y0), y0), v, field), alpha=t1 - t0)
        return torch.cat([torch.add(q, v, alpha=t1 - t0), v], dim=1)
