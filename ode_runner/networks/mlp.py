"""Fully connected layers."""

import math
from itertools import pairwise
from typing import final

import torch
from torch import nn

from ode_runner.errors import RefusedInput
from ode_runner.field import VectorField
from ode_runner.networks.base import Network
from ode_runner.tasks.base import TaskSpec
from ode_runner.types import State, Time


@final
class MLP(Network):
    """`depth` hidden layers of `width` tanh units in the field.

    Inputs of at most `width` numbers are the state themselves, so that a flow in the plane can be drawn;
    larger ones are brought down to `width` by a linear stem.
    """

    def __init__(self, spec: TaskSpec, *, width: int, depth: int) -> None:
        for name, value in (("width", width), ("depth", depth)):
            if value < 1:
                raise RefusedInput(f"network.{name} must be at least 1, not {value}.")
        self.inputs = math.prod(spec.input_shape)
        self.outputs = math.prod(spec.output_shape)
        self.state = min(self.inputs, width)
        self.width, self.depth = width, depth

    def stem(self) -> nn.Module:
        return nn.Sequential(nn.Flatten(), *([nn.Linear(self.inputs, self.state)] if self.inputs > self.state else []))

    def field(self, *, extra: int = 0) -> VectorField:
        state = self.state + extra
        return MLPField([state, *[self.width] * self.depth, state])

    def block(self) -> nn.Module:
        return ResidualMLP([self.state, *[self.width] * self.depth, self.state])

    def head(self, *, extra: int = 0) -> nn.Module:
        return nn.Linear(self.state + extra, self.outputs)


@final
class MLPField(VectorField):
    """f(t, y) by a tanh MLP over (y, t)."""

    def __init__(self, sizes: list[int]) -> None:
        super().__init__()
        self.layers = _layers([sizes[0] + 1, *sizes[1:]])

    def forward(self, t: Time, y: State) -> State:
        return self.layers(torch.cat([y, t.expand(y.shape[0], 1)], dim=1))


@final
class ResidualMLP(nn.Module):
    """y + MLP(y)."""

    def __init__(self, sizes: list[int]) -> None:
        super().__init__()
        self.layers = _layers(sizes)

    def forward(self, y: State) -> State:
        return y + self.layers(y)


def _layers(sizes: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.Tanh()]
    return nn.Sequential(*layers[:-1])
