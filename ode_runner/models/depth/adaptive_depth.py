"""An ODE-Net with a learned end time for each sample."""

from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from ode_runner.encoding import Encoding
from ode_runner.errors import IncompatibleChoice, RefusedInput
from ode_runner.field import VectorField, WrappedField, broadcast_time
from ode_runner.fields.structured_field import SeparableField
from ode_runner.models.base import Model, Numerics
from ode_runner.networks.base import Network
from ode_runner.networks.channels import ChannelMap
from ode_runner.plots.animation import Picture
from ode_runner.plots.depth import draw_end_times
from ode_runner.problem import Integrate, Solution
from ode_runner.types import State, Time, Times

NEAR = 0.01  # of the span: so near to a bound, the derivative of T is 1/25 of that in the middle


@final
class AdaptiveDepth(Model):
    """dy/dt = T f(T t, y): time of a sample is rescaled by T, so that t = 1 is the depth T.

    T is a learned function of the initial state, between the bounds `shortest` and `longest`, and is given to the
    field. The depth T t is the time of the network's field. For an autonomous task, the field does not depend on time
    and gets the depth as a feature instead: otherwise samples would move along the same trajectories, only further.

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
        depth_given = network.spec.autonomous
        inner = network.field(given=int(depth_given))
        if not inner.batched_time:
            raise IncompatibleChoice(
                f"model=adaptive_depth has a time for each sample, and {type(inner).__name__} takes one for all. "
                "Declare batched_time = True in it once it takes t of shape (batch,), or use model=odenet."
            )
        kind = ScaledTimeSeparable if isinstance(inner, SeparableField) else ScaledTimeField
        self.field = kind(inner, depth_given=depth_given, longest=longest)
        self.head = network.head()
        self.end_time = EndTime(network.state, shortest=shortest, longest=longest)

    def evolve(self, y0: Encoding, ts: Times, integrate: Integrate) -> Solution:
        return integrate(self.field, y0._replace(given=(*y0.given, self.end_time(y0.y0))), ts)

    def remarks(self, inputs: Tensor) -> Iterator[str]:
        """A sentence for each bound that end times have reached, where their derivative nearly vanishes."""
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


class ScaledTimeField(WrappedField):
    """T f(T t, y), where T is the last given tensor, (batch,).

    Args:
        inner: f, or f(t, y, depth), which gets T t as a feature or channel.
        depth_given: whether `inner` takes the depth.
        longest: the largest T, by which the longest step of `inner` is divided.
    """

    def __init__(self, inner: VectorField, *, depth_given: bool, longest: float) -> None:
        super().__init__(inner)
        self.depth_given, self.longest = depth_given, longest

    @property
    def longest_step(self) -> float | None:
        return None if self.inner.longest_step is None else self.inner.longest_step / self.longest

    def forward(self, t: Time, y: State, *given: Tensor) -> State:
        return self.scaled(self.inner, t, y, given)

    def scaled(self, function: Callable[..., State], t: Time, y: State, given: Sequence[Tensor]) -> State:
        """T times a function of T t and the state; `t` is the elapsed fraction of T."""
        *others, end = given
        depth = t * end
        depth_input = [broadcast_time(depth, y).expand(len(y), 1, *y.shape[2:])] if self.depth_given else []
        return broadcast_time(end, y) * function(depth, y, *others, *depth_input)


@final
class ScaledTimeSeparable(ScaledTimeField, SeparableField):
    """A separable field with a time scale T for each sample."""

    inner: SeparableField

    def drift(self, t: Time, p: State, *given: Tensor) -> State:
        return self.scaled(self.inner.drift, t, p, given)

    def kick(self, t: Time, q: State, *given: Tensor) -> State:
        return self.scaled(self.inner.kick, t, q, given)


@final
class EndTime(nn.Module):
    """Maps states to T (batch,), averaged over pixels for images; about 1 initially."""

    def __init__(self, state: int, *, shortest: float, longest: float) -> None:
        super().__init__()
        self.shortest, self.longest = shortest, longest
        self.map = ChannelMap(state, 1)
        with torch.no_grad():
            self.map.bias.fill_((1 - shortest) / (longest - shortest)).logit_()

    def forward(self, y: State) -> Tensor:
        return self.shortest + (self.longest - self.shortest) * self.map(y).flatten(1).mean(dim=1).sigmoid()
