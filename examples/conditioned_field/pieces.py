"""A field that is told something of its sample: dy/dt = f(t, y) sigmoid(g(z)), z made of the input by an encoder."""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from ode_runner.encoding import Encoding
from ode_runner.field import VectorField
from ode_runner.models.base import Model, Numerics
from ode_runner.networks.base import Network
from ode_runner.problem import Integrate, Solution
from ode_runner.types import State, Time, Times


class GatedField(VectorField):
    """Takes z (batch, condition) after time and state."""

    batched_time: ClassVar[bool] = True

    def __init__(self, inner: VectorField, *, condition: int) -> None:
        super().__init__()
        self.inner, self.gate = inner, nn.Linear(condition, 1)

    def forward(self, t: Time, y: State, z: Tensor) -> State:
        return self.inner(t, y) * torch.sigmoid(self.gate(z))


class Conditioned(Model):
    """An ODE-Net on vectors, of which each sample flows at a pace of its own."""

    numerics: ClassVar[Numerics] = Numerics.ANY

    def __init__(self, network: Network, *, condition: int) -> None:
        super().__init__(network)
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(network.spec.input_shape), condition), nn.Tanh())
        self.field = GatedField(network.field(), condition=condition)
        self.head = network.head()

    def encode(self, inputs: Tensor) -> Encoding:
        return super().encode(inputs)._replace(given=(self.encoder(inputs),))

    def evolve(self, y0: Encoding, ts: Times, integrate: Integrate) -> Solution:
        return integrate(self.field, y0, ts)
