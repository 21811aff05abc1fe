"""Compiled steps of samples that each have their own time, several samples at once."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from ode_runner.compiling.integrals import products_at
from ode_runner.compiling.steps import CompiledSteps
from ode_runner.compiling.values import Values
from ode_runner.fields.counted_field import CountedField
from ode_runner.solvers.one_step import ExplicitRungeKutta
from ode_runner.solvers.packed_field import PackedField
from ode_runner.types import State, Time


@final
class EachSteps(CompiledSteps):
    """Compiled steps of `lanes` samples at once, which are independent of each other.

    A row is a state of a `PackedField` (elements and integrals), followed by the tensors given to the sample. These do
    not change, so that their gradient is that of the row's initial value. `clock` (3, lanes) has t0, t1 and their
    difference for each sample; norms and errors are (lanes,). Integrals under error control have their own norm.
    """

    def __init__(
        self, solver: ExplicitRungeKutta, field: CountedField, y0: State, values: Values, *, lanes: int
    ) -> None:
        self.values, self.rows, self.moving = values, PackedField(field, y0), y0[0].numel() + len(field.names)
        self.shapes, self.names = [z.shape[1:] for z in field.given], field.names
        self.rated, self.slopes = values.slope_and_rates(field), values.equation(field)
        equation = self._at_own_times if field.batched_time else torch.vmap(self._alone, in_dims=(0, 0, None))
        learned = sum(i >= len(self.shapes) for i in values.order[: values.learned])
        super().__init__(solver, equation, self.begin_rows(field, y0)[:lanes], self.tensors(field), learned=learned)
        self.clock = self.clock[:, None] * torch.linspace(1.0, 1.5, lanes).to(y0)
        self.products_each = products_at(field, y0) if field.names else 0

    def begin_rows(self, field: CountedField, y0: State) -> Tensor:
        """The initial states of all samples."""
        return torch.cat([PackedField(field, y0).begin(y0), *(z.reshape(len(y0), -1) for z in field.given)], dim=1)

    def tensors(self, field: CountedField) -> list[Tensor]:
        """The values that all samples share: parameters."""
        every = zip(self.values.order, self.values.tensors(field), strict=True)
        return [z for i, z in every if i >= len(self.shapes)]

    def _at_own_times(self, t: Time, rows: State, values: Sequence[Tensor]) -> State:
        """The slopes of all rows at times (lanes,)."""
        y, every = self.rows.state(rows), self._every(rows, values)
        if self.names:
            dy, *rates = self.rated(t, y, every)
        else:
            dy, rates = self.slopes(t, y, every), []
        still = [torch.zeros_like(rows[:, self.moving :])] if self.shapes else []
        return torch.cat([dy.reshape(len(y), -1), *rates, *still], dim=1)

    def _every(self, rows: State, values: Sequence[Tensor]) -> list[Tensor]:
        """All values in their order, including those that are given to the rows."""
        parts = rows[:, self.moving :].split([shape.numel() for shape in self.shapes], dim=1)
        given = [part.reshape(len(rows), *shape) for part, shape in zip(parts, self.shapes, strict=True)]
        rest = iter(values)
        return [given[i] if i < len(given) else next(rest) for i in self.values.order]

    def _alone(self, t: Time, y: Tensor, values: Sequence[Tensor]) -> Tensor:
        return self._at_own_times(t, y[None], values)[0]

    def length(self, clock: Tensor) -> Tensor:
        return clock[2][:, None]

    def in_tolerances(self, difference: Tensor, y0: State, y1: State) -> Tensor:
        pair = self.pair
        scaled = difference / (pair.atol + pair.rtol * torch.maximum(y0.abs(), y1.abs()))
        norm, *others = (block.square().mean(dim=1).sqrt() for block in self.rows.blocks(scaled))
        for other in others:
            norm = torch.maximum(norm, other)
        return norm
