"""An ODE-Net in which each sample has an end time of its own."""

from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from ode_runner.encoding import Encoding
from ode_runner.errors import RefusedInput
from ode_runner.field import SeparableField, WrappedField, broadcast_time
from ode_runner.models.base import Model, Numerics
from ode_runner.networks.base import Network
from ode_runner.networks.channels import ChannelMap
from ode_runner.plots.animation import Picture
from ode_runner.plots.depth import draw_end_times
from ode_runner.problem import Integrate, Solution
from ode_runner.types import State, Time, Times

NEAR = 0.01  # of the span between the bounds: so near to one, the derivative is 1/25 of what it is in the middle


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
        inner = network.field(given=1)
        self.field = PacedSeparable(inner) if isinstance(inner, SeparableField) else PacedField(inner)
        self.head = network.head()
        self.end_time = EndTime(network.state, shortest=shortest, longest=longest)

    def evolve(self, y0: Encoding, ts: Times, integrate: Integrate) -> Solution:
        return integrate(self.field, y0._replace(given=(*y0.given, self.end_time(y0.y0))), ts)

    def remarks(self, inputs: Tensor) -> Iterator[str]:
        """That end times lie at a bound, where their derivative has all but vanished."""
        bounds = {"shortest": self.end_time.shortest, "longest": self.end_time.longest}
        end, near = self.end_time(self.encode(inputs).y0), NEAR * (bounds["longest"] - bounds["shortest"])
        for (name, bound), other in zip(bounds.items(), ("smaller", "larger"), strict=True):
            share = float(((end - bound).abs() < near).float().mean())
            if share > 0:
                yield (
                    f"{share:.0%} of the end times have gone to their bound model.{name}={bound:g}, where they hardly "
                    f"learn. Try a {other} one."
                )

    def figures(self, inputs: Tensor) -> Iterator[tuple[str, Picture]]:
        """The end time of each sample."""
        y0, bounds = self.encode(inputs).y0, (self.end_time.shortest, self.end_time.longest)
        yield "end_times", draw_end_times(self.end_time(y0), y0, bounds=bounds)


@final
class PacedField(WrappedField):
    """T f(T t, y), where `inner` is told T t after what else is given, and T is the last of those, (batch,)."""

    def forward(self, t: Time, y: State, *given: Tensor) -> State:
        return _paced(self.inner, t, y, given)


@final
class PacedSeparable(WrappedField, SeparableField):
    """The same of a separable field, half by half."""

    inner: SeparableField

    def drift(self, t: Time, p: State, *given: Tensor) -> State:
        return _paced(self.inner.drift, t, p, given)

    def kick(self, t: Time, q: State, *given: Tensor) -> State:
        return _paced(self.inner.kick, t, q, given)


def _paced(function: Callable[..., State], t: Time, y: State, given: Sequence[Tensor]) -> State:
    """T times a function of T t, which is given, and of no time besides: t is how much of T has passed."""
    *others, end = given
    depth = broadcast_time(t * end, y).expand(len(y), 1, *y.shape[2:])
    return broadcast_time(end, y) * function(torch.zeros_like(t), y, *others, depth)


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
