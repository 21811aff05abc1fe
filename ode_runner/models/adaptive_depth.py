"""An ODE-Net in which each sample has an end time of its own."""

from typing import ClassVar, final

import torch
from torch import Tensor, nn

from ode_runner.encoding import Encoding
from ode_runner.errors import RefusedInput
from ode_runner.field import WrappedField, broadcast_time
from ode_runner.models.base import Model, Numerics
from ode_runner.networks.base import Network
from ode_runner.networks.channels import ChannelMap
from ode_runner.problem import Integrate, Solution
from ode_runner.types import State, Time, Times


@final
class AdaptiveDepth(Model):
    """dy/dt = T f(T t, y): the clock of a sample runs T times as fast, so that at t = 1 it has gone to depth T.

    T is learned, a function of the initial state between the bounds `shortest` and `longest`, and is told to the field
    as it is given. The field reads the depth T t as one more feature or channel, of autonomous tasks too: otherwise
    all samples would move the same way along the line.

    Massaroli, Poli, Park, Yamashita, Asama. Dissecting Neural ODEs. NeurIPS 2020.
    """

    numerics: ClassVar[Numerics] = Numerics.ANY

    def __init__(self, network: Network, *, shortest: float, longest: float) -> None:
        super().__init__(network)
        if not 0 < shortest < 1 < longest:
            raise RefusedInput(
                f"model.shortest={shortest} and model.longest={longest} are the bounds of end times, of which 1 is "
                "one, the depth of model=odenet. Use model.shortest=0.1 model.longest=10."
            )
        self.field = PacedField(network.field(given=1))
        self.head = network.head()
        self.end_time = EndTime(network.state, shortest=shortest, longest=longest)

    def evolve(self, y0: Encoding, ts: Times, integrate: Integrate) -> Solution:
        return integrate(self.field, y0._replace(given=(*y0.given, self.end_time(y0.y0))), ts)


@final
class PacedField(WrappedField):
    """T f(T t, y), where `inner` is told T t after what else is given, and T is the last of those, (batch,)."""

    def forward(self, t: Time, y: State, *given: Tensor) -> State:
        *others, end = given
        depth = broadcast_time(t * end, y).expand(len(y), 1, *y.shape[2:])
        return broadcast_time(end, y) * self.inner(t, y, *others, depth)


@final
class EndTime(nn.Module):
    """From states to T (batch,), in the mean over pixels where there are any; about 1 at first."""

    def __init__(self, state: int, *, shortest: float, longest: float) -> None:
        super().__init__()
        self.shortest, self.longest = shortest, longest
        self.map = ChannelMap(state, 1)
        with torch.no_grad():
            self.map.bias.fill_((1 - shortest) / (longest - shortest)).logit_()

    def forward(self, y: State) -> Tensor:
        return self.shortest + (self.longest - self.shortest) * self.map(y).flatten(1).mean(dim=1).sigmoid()
