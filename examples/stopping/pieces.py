"""An ODE-Net that stops: each sample flows until a time that a learned function of its state says."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from ode_runner.batch import Outputs
from ode_runner.encoding import Encoding
from ode_runner.event import Event
from ode_runner.models.base import Model, Numerics
from ode_runner.models.events import with_events
from ode_runner.networks.base import Network
from ode_runner.problem import Integrate, Solution
from ode_runner.types import State, Times


class Overdue(nn.Module):
    """By how much the time is past the one at which the state is to stop, from 0 to 1; the root ends the solve."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.layer = nn.Linear(size, 1)

    def forward(self, t: Tensor, y: State) -> Tensor:
        return t - torch.sigmoid(self.layer(y))[:, 0]


class Stopping(Model):
    """When to stop is learned with the field, on vectors: states at an event move with its time."""

    numerics: ClassVar[Numerics] = Numerics.ANY
    to_events: ClassVar[bool] = True

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.field, self.head = network.field(), network.head()
        self.event = Event(Overdue(network.state), direction=1)

    def evolve(self, y0: Encoding, ts: Times, integrate: Integrate) -> Solution:
        return integrate(self.field, y0, ts, event=self.event)

    def forward(self, inputs: Tensor, ts: Times, integrate: Integrate) -> Outputs:
        return with_events(self, inputs, ts, integrate)
