"""The matrix exponential."""

from dataclasses import dataclass, field
from typing import ClassVar, Self, final

import torch

from ode_runner.devices.transfer import read_times
from ode_runner.errors import IncompatibleChoice
from ode_runner.field import VectorField
from ode_runner.fields.structured_field import MatrixField
from ode_runner.problem import Solution
from ode_runner.solvers.base import Solver
from ode_runner.solvers.tableau import time_tensor
from ode_runner.types import State, Times


@final
@dataclass(frozen=True, kw_only=True)
class Expm(Solver):
    """y(t) = exp(A (t - t0)) y0: exact, without steps, with one evaluation of the matrix per solve.

    Moler, Van Loan. Nineteen dubious ways to compute the exponential of a matrix, twenty-five years later. SIAM Review
    45, 2003.
    """

    kind: ClassVar[str] = "a matrix exponential"
    fields: ClassVar[type] = MatrixField
    fields_in_words: ClassVar[str] = "a constant matrix, y' = A y"
    example: ClassVar[str] = "task=closed_form"
    order: int = field(default=0, init=False)  # meaningless: there are no steps

    def solve(self, field: VectorField, y0: State, ts: Times) -> Solution:
        times = read_times(ts)
        if len(times) == 1:
            return Solution(ys=y0[None])
        if not isinstance(field, MatrixField):
            raise IncompatibleChoice(f"Expm needs {self.fields_in_words}. Use solver=rk4.")
        matrix = field.matrix(time_tensor(times[0], y0), y0)
        spans = y0.new_tensor([t - times[0] for t in times])
        flows = torch.linalg.matrix_exp(spans[:, None, None] * matrix)
        ys = torch.einsum("tij,bj->tbi", flows, y0.flatten(1))
        return Solution(ys=ys.view(len(times), *y0.shape), accepted=len(times) - 1)

    def refined(self) -> Self:
        return self
