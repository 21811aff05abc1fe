"""A model: how a network's pieces become an equation that is solved."""

import torch
from torch import nn

from ode_runner.field import VectorField
from ode_runner.models.base import Model, Numerics


class ScaledTimeField(VectorField):
    """A field times a learned positive number."""

    batched_time = True  # as the networks' fields are

    def __init__(self, inner: VectorField, *, pace: float) -> None:
        super().__init__()
        self.inner = inner
        self.log_pace = nn.Parameter(torch.tensor(pace).log())

    def forward(self, t, y):
        return self.log_pace.exp() * self.inner(t, y)


class Paced(Model):
    """An ODE-Net that learns how fast its clock goes. `pace`: where that begins."""

    numerics = Numerics.ANY  # any solver, any gradient mode

    def __init__(self, network, *, pace: float) -> None:
        super().__init__(network)
        self.field, self.head = ScaledTimeField(network.field(), pace=pace), network.head()

    def evolve(self, y0, ts, integrate):  # y0 is an Encoding: the state (batch, *state) is y0.y0
        return integrate(self.field, y0, ts)
