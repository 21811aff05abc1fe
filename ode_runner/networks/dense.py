"""Fields and blocks of fully connected layers."""

from itertools import pairwise
from typing import final

import torch
from torch import Tensor, nn

from ode_runner.field import VectorField, broadcast_time
from ode_runner.networks.base import Block
from ode_runner.networks.channels import with_given
from ode_runner.types import State, Time


@final
class MLPField(VectorField):
    """f(t, y, *given) by a tanh MLP over (y, *given, t), or without t."""

    batched_time = True

    def __init__(self, sizes: list[int], *, time: bool, given: int = 0) -> None:
        super().__init__()
        self.time = time
        self.layers = tanh_layers([sizes[0] + given + time, *sizes[1:]])

    def forward(self, t: Time, y: State, *given: Tensor) -> State:
        y = with_given(y, given)
        return self.layers(with_time(t, y) if self.time else y)


@final
class ResidualMLP(Block):
    """y + dt MLP(y)."""

    def __init__(self, sizes: list[int]) -> None:
        super().__init__()
        self.layers = tanh_layers(sizes)

    def forward(self, y: State, dt: float) -> State:
        return torch.add(y, self.layers(y), alpha=dt)


def with_time(t: Time, y: State) -> Tensor:
    """`y` (batch, state) and the time behind it, (batch, state + 1)."""
    return torch.cat([y, broadcast_time(t, y).expand(len(y), 1)], dim=1)


def tanh_layers(sizes: list[int]) -> nn.Sequential:
    """Affine maps from size to size with tanh between them, none after the last."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.Tanh()]
    return nn.Sequential(*layers[:-1])
