"""Fully connected layers that time scales and shifts."""

from itertools import pairwise
from typing import final

import torch
from torch import Tensor, nn

from ode_runner.batch import TaskSpec
from ode_runner.field import VectorField, broadcast_time
from ode_runner.networks.base import Block
from ode_runner.networks.channels import with_given
from ode_runner.networks.dense import ResidualMLP
from ode_runner.networks.sizes import check_sizes
from ode_runner.networks.vector import VectorNetwork, layer_sizes
from ode_runner.types import State, Time


@final
class ConcatSquash(VectorNetwork):
    """`depth` hidden layers of `width` tanh units, each (W y + b) * sigmoid(g t + c) + h t, on the inputs themselves.

    Where outputs are not such a state at every time, the head is an affine map of the last one.

    Grathwohl, Chen, Bettencourt, Sutskever, Duvenaud. FFJORD. ICLR 2019; `concatsquash` in its code.
    """

    def __init__(self, spec: TaskSpec, *, width: int, depth: int) -> None:
        check_sizes("network", width=width, depth=depth)
        super().__init__(spec, largest=None)
        self.width, self.depth = width, depth

    def field(self, *, extra: int = 0, given: int = 0) -> VectorField:
        inner, *sizes = layer_sizes(self.state + extra, width=self.width, depth=self.depth)
        return ConcatSquashField([inner + given, *sizes])

    def block(self) -> Block:
        return ResidualMLP(layer_sizes(self.state, width=self.width, depth=self.depth))


@final
class ConcatSquashField(VectorField):
    """f(t, y, *given) by layers that time scales and shifts, tanh between them; what is given stands beside y."""

    batched_time = True

    def __init__(self, sizes: list[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(ConcatSquashLayer(inputs, outputs) for inputs, outputs in pairwise(sizes))

    def forward(self, t: Time, y: State, *given: Tensor) -> State:
        y = self.layers[0](t, with_given(y, given))
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
