"""Integrals appended to the state, for solvers that have no other way to compute them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, final

import torch
from torch import Tensor, nn

from ode_runner.field import VectorField
from ode_runner.fields.counted_field import CountedField
from ode_runner.fields.observer import Observer
from ode_runner.problem import Solution
from ode_runner.solvers import quadrature
from ode_runner.solvers.initial_step import rms
from ode_runner.types import State, Times


@final
class PackedField(CountedField):
    """A field on (batch, elements + integrals): the flattened state of a sample, followed by its integrals."""

    def __init__(self, field: CountedField, y0: State) -> None:
        nn.Module.__init__(self)
        self.field, self.ledger, self.dtype = field, field.ledger, field.dtype
        self.batched_time, self.attached = field.batched_time, field.attached
        self.integrals, self.names, self.counts = nn.ModuleList(), (), []  # this field has none of its own
        self.shape, self.width = y0.shape[1:], y0.shape[1:].numel()

    @property
    def observer(self) -> Observer | None:  # type: ignore[override]
        return self._along.observer

    @property
    def _along(self) -> CountedField:
        assert isinstance(self.field, CountedField)
        return self.field

    def forward(self, t: Any, y: State, *given: Tensor) -> State:
        state = self.state(y)
        dy = self._along(t, state, *given)
        return torch.cat([dy.reshape(len(y), -1), self._along.rates(t, state, dy, *given)], dim=1)

    def arguments(self) -> list[Tensor]:
        return self._along.arguments()

    def leaves(self) -> list[Tensor]:
        return self._along.leaves()

    def inputs(self) -> list[Tensor]:
        return self._along.inputs()

    def begin(self, y0: State) -> Tensor:
        """The packed initial state."""
        return torch.cat([y0.reshape(len(y0), -1), quadrature.begin(self._along, y0)], dim=1)

    def state(self, packed: Tensor) -> Tensor:
        """The states (..., batch, *state) in (..., batch, elements + integrals)."""
        return packed[..., : self.width].reshape(*packed.shape[:-1], *self.shape)

    def unpacked(self, solution: Solution) -> Solution:
        """The solution with states and integrals separated."""
        qs = solution.ys[..., self.width :]
        return replace(solution, ys=self.state(solution.ys), integrals=self._along.named(qs))

    def blocks(self, packed: Tensor) -> list[Tensor]:
        """The parts with error norms of their own: states (batch, elements) and each judged integral (batch, 1).

        `packed` may have fewer rows than the batch.
        """
        columns = (self.width + i for i in self._along.judged)
        return [packed[:, : self.width], *(packed[:, i : i + 1] for i in columns)]

    def norm(self, packed: Tensor) -> Tensor:
        """The largest root mean square of a block, over the whole batch."""
        return torch.stack([rms(block) for block in self.blocks(packed)]).max()


def solve_packed(solve: Callable[[Any, State, Times], Solution], field: VectorField, y0: State, ts: Times) -> Solution:
    """`solve(field, y0, ts)`, with integrals along the field appended to the state."""
    along = quadrature.counted(field)
    if along is None:
        return solve(field, y0, ts)
    rows = PackedField(along, y0)
    return rows.unpacked(solve(rows, rows.begin(y0), ts))
