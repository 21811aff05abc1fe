"""Fully connected layers that are scaled and shifted as functions of time."""

from collections.abc import Iterator
from itertools import pairwise
from typing import final

import torch
from torch import Tensor, nn

from ode_runner.batch import TaskSpec
from ode_runner.field import JVP, LinearizableField, VectorField
from ode_runner.networks.base import Block
from ode_runner.networks.channels import with_given
from ode_runner.networks.dense import AffineMap, ResidualMLP, tanh_between
from ode_runner.networks.sizes import check_sizes
from ode_runner.networks.vector import VectorNetwork, layer_sizes
from ode_runner.types import State, Time


@final
class ConcatSquash(VectorNetwork):
    """`depth` hidden layers of `width` tanh units, each (W y + b) * sigmoid(g t + c) + h t; the inputs are the state.

    The head is the identity if outputs are such states at every time, otherwise a linear layer on the last state.

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
class ConcatSquashField(LinearizableField):
    """f(t, y, *given) by layers scaled and shifted by time, with tanh between them; given tensors are appended to y."""

    batched_time = True

    def __init__(self, sizes: list[int]) -> None:
        super().__init__()
        self.outputs = sizes[1:]
        self.maps = nn.ModuleList(nn.Linear(inputs, outputs) for inputs, outputs in pairwise(sizes))
        self.gates, self.shifts = nn.Linear(1, sum(self.outputs)), nn.Linear(1, sum(self.outputs), bias=False)

    def linearize(self, t: Time, y: State, *given: Tensor) -> tuple[State, JVP]:
        return tanh_between(list(self._layers(t.to(y.dtype).reshape(-1, 1))), with_given(y, given))

    def _layers(self, t: Tensor) -> Iterator[AffineMap]:
        """Layers at a time per sample, (batch, 1), or at a common time, (1, 1), which scales the weights themselves."""
        layers = [layer for layer in self.maps if isinstance(layer, nn.Linear)]
        gates = torch.sigmoid(self.gates(t))
        biases = torch.addcmul(self.shifts(t), gates, torch.cat([layer.bias for layer in layers]))
        parts = zip(layers, gates.split(self.outputs, dim=1), biases.split(self.outputs, dim=1), strict=True)
        for layer, gate, bias in parts:
            if len(t) == 1:
                yield AffineMap(gate.T * layer.weight, bias[0])
            else:
                yield AffineMap(layer.weight, bias, gate)
