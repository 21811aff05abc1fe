"""Invertible layers between data and a base distribution, for discrete flows."""

import abc
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, final

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from ode_runner.types import State

SMALLEST = 1e-12  # lower bound of the variance of the first data, so that constant features stay finite


class Mapped(NamedTuple):
    """The result of a map, (batch, *shape), and log |det| of its Jacobian, (batch,)."""

    state: State
    log_det: Tensor


class FlowLayer(nn.Module, abc.ABC):
    """An invertible map from data towards the base distribution; states keep their shape.

    `given` is the condition, (batch, condition), if there is one.
    """

    @abc.abstractmethod
    def forward(self, x: State, given: Sequence[Tensor]) -> Mapped:
        """The state after this layer, towards the base distribution, and log |det dy/dx|, (batch,)."""

    @abc.abstractmethod
    def inverse(self, y: State, given: Sequence[Tensor]) -> Mapped:
        """The inverse of `forward`: the state before this layer, and log |det dx/dy|, (batch,)."""

    def initialise(self, x: State, given: Sequence[Tensor]) -> None:
        """Set weights that depend on the first data; most layers have no such weights."""
        del x, given


@final
class Chain(FlowLayer):
    """A composition of layers; the first acts on the data."""

    def __init__(self, layers: Iterable[FlowLayer]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: State, given: Sequence[Tensor]) -> Mapped:
        *_, end = self.stages(x, given)
        return end

    def inverse(self, y: State, given: Sequence[Tensor]) -> Mapped:
        *_, end = self.stages_back(y, given)
        return end

    def stages(self, x: State, given: Sequence[Tensor]) -> Iterator[Mapped]:
        """The state and the total log |det|, at the beginning and after each layer."""
        return _stages((layer for layer in self), x, given)

    def stages_back(self, y: State, given: Sequence[Tensor]) -> Iterator[Mapped]:
        """The same from the base distribution to the data, beginning with the last layer."""
        return _stages((layer.inverse for layer in reversed(list(self))), y, given)

    def initialise(self, x: State, given: Sequence[Tensor]) -> None:
        for layer in self:
            layer.initialise(x, given)
            x = layer(x, given).state

    def __iter__(self) -> Iterator[FlowLayer]:
        return iter(typing.cast(Iterable[FlowLayer], self.layers))


@final
class Inverted(FlowLayer):
    """The inverse of a layer."""

    def __init__(self, layer: FlowLayer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: State, given: Sequence[Tensor]) -> Mapped:
        return self.layer.inverse(x, given)

    def inverse(self, y: State, given: Sequence[Tensor]) -> Mapped:
        found: Mapped = self.layer(y, given)
        return found


@final
class ActNorm(FlowLayer):
    """(x + shift) * exp(log_scale), for each feature or channel.

    It is initialised so that the first data get mean 0 and variance 1 over samples and, for images, pixels.

    Kingma, Dhariwal. Glow. NeurIPS 2018, section 3.1.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        features, *places = shape
        self.shift = nn.Parameter(torch.zeros(features, *[1] * len(places)))
        self.log_scale = nn.Parameter(torch.zeros_like(self.shift))

    def forward(self, x: State, given: Sequence[Tensor]) -> Mapped:
        return Mapped((x + self.shift) * self.log_scale.exp(), self._log_det(x))

    def inverse(self, y: State, given: Sequence[Tensor]) -> Mapped:
        return Mapped(y * (-self.log_scale).exp() - self.shift, -self._log_det(y))

    @torch.no_grad()
    def initialise(self, x: State, given: Sequence[Tensor]) -> None:
        over = [0, *range(2, x.dim())]
        variance, mean = torch.var_mean(x, dim=over, correction=0, keepdim=True)
        self.shift.copy_(-mean[0])
        self.log_scale.copy_(-0.5 * variance[0].clamp(min=SMALLEST).log())

    def _log_det(self, x: State) -> Tensor:
        places = x[0].numel() // self.log_scale.numel()
        return (places * self.log_scale.sum()).expand(len(x))


@final
class SqueezedPart(FlowLayer):
    """A layer on a part of an image, after `level` squeezes, with a split between any two of them.

    A squeeze turns the four pixels of every 2x2 block into four channels. A split leaves the second half of the
    channels unchanged. The parts are reassembled, so that states remain images.

    Dinh, Sohl-Dickstein, Bengio. Density Estimation using Real NVP. ICLR 2017, sections 3.6, 3.7.
    """

    def __init__(self, layer: FlowLayer, *, level: int) -> None:
        super().__init__()
        self.layer, self.level = layer, level

    def forward(self, x: State, given: Sequence[Tensor]) -> Mapped:
        return self._on_part(self.layer, x, given)

    def inverse(self, y: State, given: Sequence[Tensor]) -> Mapped:
        return self._on_part(self.layer.inverse, y, given)

    def initialise(self, x: State, given: Sequence[Tensor]) -> None:
        part, _ = self._halves(x)
        self.layer.initialise(part, given)

    def _on_part(self, layer: Callable[..., Mapped], x: State, given: Sequence[Tensor]) -> Mapped:
        part, others = self._halves(x)
        y, log_det = layer(part, given)
        for other in reversed(others):
            y = torch.cat([pixel_shuffle(y, 2), other], dim=1)
        return Mapped(pixel_shuffle(y, 2), log_det)

    def _halves(self, x: State) -> tuple[Tensor, list[Tensor]]:
        """The part, and the halves that were split off before, in the order of levels."""
        part, others = pixel_unshuffle(x, 2), []
        for _ in range(self.level - 1):
            part, other = part.chunk(2, dim=1)
            part = pixel_unshuffle(part, 2)
            others.append(other)
        return part, others


def _stages(maps: Iterable[Callable[..., Mapped]], x: State, given: Sequence[Tensor]) -> Iterator[Mapped]:
    reached = Mapped(x, x.new_zeros(len(x)))
    yield reached
    for layer in maps:
        state, log_det = layer(reached.state, given)
        reached = Mapped(state, reached.log_det + log_det)
        yield reached
