"""Fully connected layers that time scales and shifts."""

import math
from itertools import pairwise
from typing import final

import torch
from torch import Tensor, nn

from ode_runner.batch import TaskSpec
from ode_runner.field import VectorField, broadcast_time
from ode_runner.networks.base import Block, Coordinates, Network
from ode_runner.networks.dense import ResidualMLP
from ode_runner.networks.sizes import check_sizes
from ode_runner.types import State, Time


@final
class ConcatSquash(Network):
    """`depth` hidden layers of `width` tanh units, each (W y + b) * sigmoid(g t + c) + h t, on the inputs themselves.

    Where outputs are not such a state at every time, the head is an affine map of the last one.

    Grathwohl, Chen, Bettencourt, Sutskever, Duvenaud. FFJORD. ICLR 2019; `concatsquash` in its code.
    """

    state_is_input = True

    def __init__(self, spec: TaskSpec, *, width: int, depth: int) -> None:
        check_sizes("network", width=width, depth=depth)
        self.spec = spec
        self.state, self.outputs = math.prod(spec.input_shape), math.prod(spec.output_shape)
        self.width, self.depth = width, depth
        self.state_is_data = spec.every_time and spec.input_shape == spec.output_shape

    def stem(self) -> nn.Module:
        return nn.Flatten()

    def field(self, *, extra: int = 0, given: int = 0) -> VectorField:
        inner, *sizes = self._sizes(self.state + extra)
        return ConcatSquashField([inner + given, *sizes])

    def block(self) -> Block:
        return ResidualMLP(self._sizes(self.state))

    def head(self, *, extra: int = 0) -> nn.Module:
        return Coordinates(self.outputs) if self.state_is_data else nn.Linear(self.state + extra, self.outputs)

    def _sizes(self, ends: int) -> list[int]:
        return [ends, *[self.width] * self.depth, ends]


@final
class ConcatSquashField(VectorField):
    """f(t, y, *given) by layers that time scales and shifts, tanh between them; what is given stands beside y."""

    batched_time = True

    def __init__(self, sizes: list[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(ConcatSquashLayer(inputs, outputs) for inputs, outputs in pairwise(sizes))

    def forward(self, t: Time, y: State, *given: Tensor) -> State:
        y = self.layers[0](t, torch.cat([y, *given], dim=1))
        for layer in self.layers[1:]:
            y = layer(t, torch.tanh(y))
        return y


@final
class ConcatSquashLayer(nn.Module):
    """(W y + b) * sigmoid(g t + c) + h t."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.map, self.gate, self.shift = (
            nn.Linear(inputs, outputs),
            nn.Linear(1, outputs),
            nn.Linear(1, outputs, bias=False),
        )

    def forward(self, t: Time, y: Tensor) -> Tensor:
        time = broadcast_time(t, y).to(y.dtype).reshape(-1, 1)
        return self.map(y) * torch.sigmoid(self.gate(time)) + self.shift(time)
