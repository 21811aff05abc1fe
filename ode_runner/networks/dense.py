"""Fields and residual blocks of fully connected layers."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, final

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from ode_runner.field import JVP, LinearizableField, WrappedField, broadcast_time
from ode_runner.networks.base import Block
from ode_runner.networks.channels import with_given
from ode_runner.types import State, Time


@final
class MLPField(LinearizableField):
    """f(t, y, *given) by a tanh MLP over (y, *given, t), with or without t."""

    batched_time = True

    def __init__(self, sizes: list[int], *, time: bool, given: int = 0) -> None:
        super().__init__()
        self.time = time
        self.layers = tanh_layers([sizes[0] + given + time, *sizes[1:]])

    def linearize(self, t: Time, y: State, *given: Tensor) -> tuple[State, JVP]:
        y = with_given(y, given)
        maps = [AffineMap(layer.weight, layer.bias) for layer in self.layers if isinstance(layer, nn.Linear)]
        return tanh_between(maps, with_time(t, y) if self.time else y)


@final
class BoundedField(WrappedField):
    """tanh f(t, y): the elements of the field are at most 1 in absolute value."""

    def forward(self, t: Time, y: State) -> State:
        return self.inner(t, y).tanh()


@final
class ResidualMLP(Block):
    """y + dt MLP(y)."""

    def __init__(self, sizes: list[int]) -> None:
        super().__init__()
        self.layers = tanh_layers(sizes)

    def forward(self, y: State, dt: float) -> State:
        return torch.add(y, self.layers(y), alpha=dt)


class AffineMap(NamedTuple):
    """Maps x to gate * (weight x) + bias; a gate of None is 1."""

    weight: Tensor  # (out, in)
    bias: Tensor  # (out,), or (batch, out) if there is a gate
    gate: Tensor | None = None  # (batch, out)

    def __call__(self, x: Tensor) -> Tensor:
        if self.gate is None:
            return linear(x, self.weight, self.bias)
        return torch.addcmul(self.bias, self.gate, linear(x, self.weight))

    def jvp(self, v: Tensor) -> Tensor:
        """Maps tangents (..., n) of the first n inputs to those of the outputs."""
        inputs = v.shape[-1]
        v = linear(v, self.weight if inputs == self.weight.shape[1] else self.weight[:, :inputs])
        return v if self.gate is None else self.gate * v


def tanh_between(maps: Sequence[AffineMap], x: Tensor) -> tuple[Tensor, JVP]:
    """Applies the maps with tanh between them; also returns the map of tangents of the first elements of `x`."""
    first, *others = maps
    hidden = []
    x = first(x)
    for affine in others:
        hidden.append(torch.tanh(x))
        x = affine(hidden[-1])

    def jvp(v: Tensor) -> Tensor:
        v = first.jvp(v)
        for h, affine in zip(hidden, others, strict=True):
            v = affine.jvp(torch.ops.aten.tanh_backward(v, h))  # v * (1 - h * h), and half as much to save
        return v

    return x, jvp


def with_time(t: Time, y: State) -> Tensor:
    """`y` (batch, state) with the time appended, (batch, state + 1)."""
    return torch.cat([y, broadcast_time(t, y).expand(y.shape[0], 1)], dim=1)


def tanh_layers(sizes: list[int]) -> nn.Sequential:
    """Linear layers between consecutive sizes, with tanh between them and none after the last."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.Tanh()]
    return nn.Sequential(*layers[:-1])
