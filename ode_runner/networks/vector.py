"""The base of networks on vectors: how inputs become a state, and a state outputs."""

import math

from torch import nn

from ode_runner.batch import TaskSpec
from ode_runner.networks.base import Coordinates, Network


class VectorNetwork(Network):
    """A network whose state is a vector: the inputs themselves, or a linear map of them.

    Inputs of more than `largest` numbers are mapped to `largest` features; None: inputs of any size are the state. The
    head is the identity if outputs are such states at every time, otherwise a linear layer on the last state.
    """

    def __init__(self, spec: TaskSpec, *, largest: int | None) -> None:
        self.spec = spec
        self.inputs, self.outputs = math.prod(spec.input_shape), math.prod(spec.output_shape)
        self.state = self.inputs if largest is None else min(self.inputs, largest)
        self.state_is_input = self.state == self.inputs
        self.state_is_data = spec.every_time and spec.input_shape == spec.output_shape and self.state_is_input

    def stem(self) -> nn.Module:
        return nn.Sequential(nn.Flatten(), *([] if self.state_is_input else [nn.Linear(self.inputs, self.state)]))

    def head(self, *, extra: int = 0) -> nn.Module:
        return Coordinates(self.outputs) if self.state_is_data else nn.Linear(self.state + extra, self.outputs)


def layer_sizes(ends: int, *, width: int, depth: int) -> list[int]:
    """The sizes of layers that map `ends` numbers to `ends` numbers, with `depth` hidden layers of `width` units."""
    return [ends, *[width] * depth, ends]
