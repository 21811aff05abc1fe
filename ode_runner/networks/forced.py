"""Networks for forced systems, whose external inputs are measured at separate times."""

from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor, nn

from ode_runner.batch import Drive
from ode_runner.encoding import Encoding
from ode_runner.errors import IncompatibleChoice
from ode_runner.field import VectorField, WrappedField, broadcast_time
from ode_runner.networks.base import Block, Network
from ode_runner.types import State, Time


def with_series_inputs(network: Network) -> Network:
    """The network, wrapped if inputs of series have further numbers after the state."""
    return SeriesNetwork(network) if network.spec.series else network


@final
class SeriesNetwork(Network):
    """Wraps a network; its field receives the external inputs at the time of evaluation, after the state."""

    def __init__(self, inner: Network) -> None:
        self.inner, self.spec, self.state = inner, inner.spec, inner.state
        self.state_is_data, self.state_is_input = inner.state_is_data, inner.state_is_input

    def unused_options(self) -> Mapping[str, str]:
        return self.inner.unused_options()

    def stem(self) -> nn.Module:
        (state,) = self.spec.input_shape
        return SeriesStem(self.inner.stem(), state=state, drive=self.spec.drive)

    def field(self, *, extra: int = 0, given: int = 0) -> VectorField:
        drive = self.spec.drive
        if drive is None:
            return self.inner.field(extra=extra, given=given)
        return ForcedField(self.inner.field(extra=extra, given=given + drive.columns), held=drive.held)

    def block(self) -> Block:
        if self.spec.drive is not None:
            raise IncompatibleChoice(
                "external inputs (task.inputs) depend on time, and blocks have none. Use model=odenet, or "
                "task.inputs=[]."
            )
        return self.inner.block()

    def head(self, *, extra: int = 0) -> nn.Module:
        return self.inner.head(extra=extra)


@final
class SeriesStem(nn.Module):
    """Maps inputs (batch, state + 1 + columns * knots * 2) to a state, with knots (batch, columns, knots, 2) given.

    The solve has a break at each knot, where a held input jumps and a linear one has a kink.
    """

    def __init__(self, inner: nn.Module, *, state: int, drive: Drive | None) -> None:
        super().__init__()
        self.inner, self.state, self.drive = inner, state, drive

    def forward(self, inputs: Tensor) -> Encoding:
        y0 = self.inner(inputs[:, : self.state])
        if self.drive is None:
            return Encoding(y0)
        knots = inputs[:, self.state + 1 :].view(len(inputs), self.drive.columns, -1, 2)
        return Encoding(y0, given=[knots], breaks=knots[..., 0].unique().tolist())


@final
class ForcedField(WrappedField):
    """f(t, y, u(t), *given): the first given tensor is the knots of u, (batch, columns, knots, 2), time and value.

    u is constant before its first knot and after its last.
    """

    def __init__(self, inner: VectorField, *, held: bool) -> None:
        super().__init__(inner)
        self.held = held

    def forward(self, t: Time, y: State, *given: Tensor) -> State:
        knots, *others = given
        return self.inner(t, y, value_at(t, knots, held=self.held), *others)


def value_at(t: Time, knots: Tensor, *, held: bool) -> Tensor:
    """u (batch, columns) at `t`, () or (batch,), from knots (batch, columns, knots, 2) with non-decreasing times."""
    times, values = knots.unbind(dim=-1)
    now = broadcast_time(t, times[..., :1]).expand_as(times[..., :1])
    before = (times <= now).sum(dim=-1, keepdim=True)  # breaks make the side of a knot unambiguous
    left, right = ((before + side).clamp(0, times.shape[-1] - 1) for side in (-1, 0))
    start, end = (values.gather(-1, place) for place in (left, right))
    if held:
        return start.squeeze(-1)
    begun, ended = (times.gather(-1, place) for place in (left, right))
    part = (now - begun) / (ended - begun).where(ended > begun, torch.ones_like(ended))
    return (start + part.clamp(0, 1) * (end - start)).squeeze(-1)
