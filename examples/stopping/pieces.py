"""An ODE-Net that stops: each sample flows until the integral of a learned rate along its path reaches a half."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ode_runner.batch import Outputs
from ode_runner.encoding import Encoding
from ode_runner.event import Event
from ode_runner.models.base import Model, Numerics
from ode_runner.models.events import with_events
from ode_runner.networks.base import Network
from ode_runner.problem import Integrate, Solution
from ode_runner.types import State, Times, Trajectory


class WithRate(nn.Module):
    """A field, and the integral of a rate as the last element of its states.

    The rate is positive: an integral that could turn back where it reaches a half would have no sure time of that.
    """

    def __init__(self, field: nn.Module, size: int) -> None:
        super().__init__()
        self.field, self.rate = field, nn.Linear(size, 1)

    def forward(self, t: Tensor, y: State) -> State:
        states = y[:, :-1]
        return torch.cat([self.field(t, states), softplus(self.rate(states))], dim=1)


class Stopping(Model):
    """When to stop is learned with the field, on vectors: states at an event move with its time."""

    numerics: ClassVar[Numerics] = Numerics.ANY
    to_events: ClassVar[bool] = True

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.field, self.head = WithRate(network.field(), network.state), network.head()
        self.event = Event(lambda t, y: y[:, -1] - 0.5, direction=1)

    def evolve(self, y0: Encoding, ts: Times, integrate: Integrate) -> Solution:
        larger = torch.cat([y0.y0, torch.zeros_like(y0.y0[:, :1])], dim=1)
        return integrate(self.field, y0._replace(y0=larger), ts, event=self.event)

    def read(self, states: Trajectory) -> Tensor:
        return super().read(states[..., :-1])

    def forward(self, inputs: Tensor, ts: Times, integrate: Integrate) -> Outputs:
        return with_events(self, inputs, ts, integrate)
