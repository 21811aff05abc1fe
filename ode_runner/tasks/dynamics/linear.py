"""A linear spiral, or the cubic spiral of torchdiffeq's demo."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from ode_runner.errors import RefusedInput, as_typed
from ode_runner.field import VectorField
from ode_runner.plots.figure_types import Figure
from ode_runner.plots.matrix import draw_matrices
from ode_runner.tasks.base import ModelView
from ode_runner.tasks.dynamics.trajectories import Trajectories
from ode_runner.types import State, Time


@final
@dataclass(kw_only=True, eq=False)
class Linear(Trajectories):
    """y' = A y^power, with the power applied elementwise."""

    matrix: Sequence[Sequence[float]]  # A
    power: int  # 1, or 3 for the spiral of torchdiffeq's ode_demo.py

    names: ClassVar[tuple[str, ...]] = ("y_1", "y_2")

    def true_field(self) -> VectorField:
        return PowerField([list(row) for row in self.matrix], self.power)

    def field_metrics(self, field: VectorField) -> dict[str, float]:
        """Adds `matrix_error`, the Frobenius norm |theta - A|; theta is the learned field at the unit vectors."""
        distance = (self._matrix_of(field) - self._matrix_of(self.true_field())).norm()
        return super().field_metrics(field) | {"matrix_error": float(distance)}

    def figures(self, view: ModelView) -> Iterator[tuple[str, Figure]]:
        yield from super().figures(view)
        if view.learned_field is not None:
            true, found = self._matrix_of(self.true_field()), self._matrix_of(view.learned_field)
            matrices = {"true": true, "found": found, "found - true": found - true}
            title = "The matrix: what the field makes of the unit vectors, as columns"
            yield "matrix", draw_matrices(matrices, title=title)

    def _matrix_of(self, field: VectorField) -> Tensor:
        """The values of a field at the unit vectors, as columns, in float64."""
        dtype = next((p.dtype for p in field.parameters()), torch.float64)
        units = torch.eye(len(self.y0), dtype=dtype, device=self.device)
        return field(units.new_zeros(()), units).T.double()

    def _check(self) -> None:
        super()._check()
        size = len(self.names)
        if len(self.matrix) != size or any(len(row) != size for row in self.matrix):
            raise RefusedInput(f"task.matrix={as_typed(self.matrix)} must be {size} rows of {size}.")
        if self.power not in (1, 3):
            raise RefusedInput(f"task.power must be 1 or 3, not {self.power}.")


@final
class PowerField(VectorField):
    """y to A y^power."""

    batched_time = True

    def __init__(self, matrix: list[list[float]], power: int) -> None:
        super().__init__()
        self.matrix, self.power = matrix, power

    def forward(self, t: Time, y: State) -> State:
        return y.pow(self.power) @ y.new_tensor(self.matrix).T
