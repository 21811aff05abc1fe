"""Compiled steps of samples that each have a time of their own, several samples beside each other."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from ode_runner.compiling.integrals import products_at
from ode_runner.compiling.steps import CompiledSteps
from ode_runner.compiling.values import Values
from ode_runner.counted_field import CountedField
from ode_runner.solvers.one_step import ExplicitRungeKutta
from ode_runner.solvers.packed_field import PackedField
from ode_runner.types import State, Time


@final
class EachSteps(CompiledSteps):
    """Of `lanes` samples at once, none of which knows of the others.

    `clock` (3, lanes) holds t0, t1 and their difference of each; norms and errors are (lanes,). With integrals, states
    are those of a `PackedField`, and all that are judged have a norm of their own.
    """

    def __init__(
        self, solver: ExplicitRungeKutta, field: CountedField, y0: State, values: Values, *, lanes: int
    ) -> None:
        self.rows = PackedField(field, y0) if field.names else None
        self.rated, self.slopes = values.slope_and_rates(field), values.equation(field)
        begin = y0.detach() if self.rows is None else self.rows.begin(y0.detach())
        equation = self._at_own_times if field.batched_time else torch.vmap(self._alone, in_dims=(0, 0, None))
        super().__init__(solver, equation, begin[:lanes], values.tensors(field), learned=values.learned)
        self.clock = self.clock[:, None] * torch.linspace(1.0, 1.5, lanes).to(y0)
        self.products_each = products_at(field, y0) if field.names else 0

    def _at_own_times(self, t: Time, y: State, values: Sequence[Tensor]) -> State:
        """The slopes of all rows at times (lanes,), with integrals behind them."""
        if self.rows is None:
            return self.slopes(t, y, values)
        dy, rates = self.rated(t, self.rows.state(y), values)
        return torch.cat([dy.reshape(len(y), -1), rates], dim=1)

    def _alone(self, t: Time, y: Tensor, values: Sequence[Tensor]) -> Tensor:
        return self._at_own_times(t, y[None], values)[0]

    def length(self, clock: Tensor) -> Tensor:
        return clock[2].view(-1, *[1] * (self.y0.dim() - 1))

    def in_tolerances(self, difference: Tensor, y0: State, y1: State) -> Tensor:
        pair = self.pair
        scaled = difference / (pair.atol + pair.rtol * torch.maximum(y0.abs(), y1.abs()))
        blocks = [scaled.flatten(1)] if self.rows is None else self.rows.blocks(scaled)
        norm, *others = (block.square().mean(dim=1).sqrt() for block in blocks)
        for other in others:
            norm = torch.maximum(norm, other)
        return norm
