"""Fully connected layers."""

import math
from typing import final

from torch import nn

from ode_runner.batch import TaskSpec
from ode_runner.field import VectorField
from ode_runner.networks.base import Block, Coordinates, Network
from ode_runner.networks.dense import MLPField, ResidualMLP
from ode_runner.networks.sizes import check_sizes


@final
class MLP(Network):
    """`depth` hidden layers of `width` tanh units in the field.

    Inputs of at most `width` numbers are the state themselves, so that a flow in the plane can be drawn;
    larger ones are brought down to `width` by a linear stem. Where the outputs are such a state at every time, the
    head is the state itself. The field of an autonomous task is not told the time.
    """

    def __init__(self, spec: TaskSpec, *, width: int, depth: int) -> None:
        check_sizes("network", width=width, depth=depth)
        self.spec = spec
        self.inputs = math.prod(spec.input_shape)
        self.outputs = math.prod(spec.output_shape)
        self.state = min(self.inputs, width)
        self.width, self.depth = width, depth
        self.state_is_input = self.state == self.inputs
        self.state_is_data = spec.every_time and spec.input_shape == spec.output_shape and self.state == self.inputs

    def stem(self) -> nn.Module:
        return nn.Sequential(nn.Flatten(), *([nn.Linear(self.inputs, self.state)] if self.inputs > self.state else []))

    def field(self, *, extra: int = 0, given: int = 0) -> VectorField:
        state = self.state + extra
        return MLPField([state, *[self.width] * self.depth, state], time=not self.spec.autonomous, given=given)

    def block(self) -> Block:
        return ResidualMLP([self.state, *[self.width] * self.depth, self.state])

    def head(self, *, extra: int = 0) -> nn.Module:
        return Coordinates(self.outputs) if self.state_is_data else nn.Linear(self.state + extra, self.outputs)
