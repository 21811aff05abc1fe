"""Integrals along the steps of a solve, and their errors for step control."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ode_runner.field import FieldAround, VectorField
from ode_runner.fields.counted_field import CountedField
from ode_runner.solvers.tableau import advance, time_tensor
from ode_runner.types import State, Time


class Node(NamedTuple):
    """A point at which a step has evaluated the field."""

    t: float
    y: State
    dy: State


def counted(field: VectorField) -> CountedField | None:
    """The counting wrapper that holds the integrals along the field; None if there are none."""
    while isinstance(field, FieldAround):
        field = field.field
    return field if isinstance(field, CountedField) and field.names else None


def begin(field: VectorField, y0: State) -> Tensor:
    """Integrals at the first time: zeros (batch, integral); an empty tensor if there are none."""
    known = counted(field)
    return y0.new_zeros(0) if known is None else y0.new_zeros(len(y0), len(known.names))


def named(field: VectorField, qs: Tensor) -> dict[str, Tensor]:
    """Integrals (time, batch, integral) by their names."""
    known = counted(field)
    return {} if known is None else known.named(qs)


def gains(
    field: VectorField,
    nodes: Sequence[Node],
    dt: float,
    rows: Sequence[Sequence[float]],
    known: Sequence[Tensor | None] = (),
) -> list[Tensor]:
    """dt * row @ g(nodes) for each row of weights, (batch, integral); an empty list if there are no integrals.

    Integrands are evaluated at nodes with a nonzero weight, except those at the first nodes that are `known`.
    """
    along = counted(field)
    if along is None:
        return []
    rates = rates_at(along, nodes, rows, known)
    start = begin(field, nodes[0].y)
    return [_summed(start, dt, row, rates) for row in rows]


def rates_at(
    field: CountedField, nodes: Sequence[Node], rows: Sequence[Sequence[float]], known: Sequence[Tensor | None] = ()
) -> list[Tensor | None]:
    """Integrands at the nodes, (batch, integral) each; None if not known and no row has a weight for the node."""
    rates: list[Tensor | None] = [*known, *[None] * (len(nodes) - len(known))]
    for i, node in enumerate(nodes):
        if rates[i] is None and any(row[i] for row in rows):
            rates[i] = field.rates(time_tensor(node.t, node.y), node.y, node.dy)
    return rates


def _summed(q: Tensor, dt: float, row: Sequence[float], rates: Sequence[Tensor | None]) -> Tensor:
    wanted = [(weight, rate) for weight, rate in zip(row, rates, strict=True) if rate is not None]
    return advance(q, dt, [weight for weight, _ in wanted], [rate for _, rate in wanted])


class JudgedIntegrals:
    """The integrals along a solve under step control; the judged integral with the largest error counts."""

    def __init__(self, field: VectorField, y0: State, *, rtol: float, atol: float) -> None:
        self.along, self.rtol, self.atol = counted(field), rtol, atol
        self.which = [] if self.along is None else self.along.judged
        self.q = begin(field, y0)
        self._at: tuple[State, Tensor | None] = (y0, None)  # a state at an end of a step, and the integrands there

    def rates(self, t: Time, y: State, dy: State) -> Tensor:
        """The integrands, (batch, integral); an empty tensor if no integral is judged."""
        return y.new_zeros(0) if self.along is None or not self.which else self.along.rates(t, y, dy)

    def size(self, x: Tensor, gain: Tensor | None = None) -> float:
        """The largest root mean square of a judged integral's `x`, in units of the tolerance; 0 if none is judged."""
        if not self.which:
            return 0.0
        ends = self.q.abs() if gain is None else torch.maximum(self.q.abs(), (self.q + gain).abs())
        scaled = (x / (self.atol + self.rtol * ends))[:, self.which]
        return float(scaled.square().mean(dim=0).sqrt().max())

    def errors(
        self, nodes: Sequence[Node], dt: float, *, b: Sequence[float], b_error: Sequence[float]
    ) -> tuple[list[Tensor | None], Tensor, float]:
        """Integrands at the nodes of an attempted step, the increment of the integrals, and its error.

        The increment is (batch, integral); the error is the largest root mean square of a judged integral, in units of
        the tolerance.
        """
        assert self.along is not None
        place, known = self._at
        rates = rates_at(self.along, nodes, [b, b_error], [known] if nodes[0].y is place else ())
        self._at = (nodes[0].y, rates[0])
        with torch.no_grad():
            zero = torch.zeros_like(self.q)
            gain, difference = (_summed(zero, dt, row, rates) for row in (b, b_error))
            return rates, gain, self.size(difference, gain)

    def accept(self, gain: Tensor, y1: State, rate: Tensor | None) -> None:
        """Accept a step with the increment `gain` that ends in `y1`; `rate` are the integrands there, if known."""
        self.q, self._at = self.q + gain, (y1, rate)
