"""The Transformer."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, final

import torch
from torch import Tensor, nn

from ode_runner.batch import TaskSpec
from ode_runner.errors import IncompatibleChoice, RefusedInput
from ode_runner.field import VectorField
from ode_runner.networks.attention import Layer, LayerSizes
from ode_runner.networks.base import Block
from ode_runner.networks.embeddings import FeaturesFirst, FromPatches, Positions, TokenEmbedding, ToPatches
from ode_runner.networks.sizes import check_sizes
from ode_runner.networks.time_features import TimeFeatures
from ode_runner.networks.tokens import TokenNetwork
from ode_runner.types import State, Time


@final
class Transformer(TokenNetwork):
    """The state is features of positions, (batch, width, positions), for tokens, rows of numbers or patches of images.

    A field is the sum of the increments of `depth` layers. If a task is about the images themselves, as for densities
    and samples, the images are the state, and the field makes the patches.

    Args:
        width: features of a position.
        heads: number of attention heads; it must divide the width.
        depth: layers of a field, and of a block.
        expansion: hidden units of a layer's feed-forward part, divided by `width`.
        positions: `absolute` is learned vectors; `relative` is rotary (see `Attention`), which cannot distinguish
            positions if all tokens are equal, such as masks; `both`; or `none`.
        causal: no position sees a later one.
        time: whether fields receive the time, which then scales and shifts every normalisation; never for autonomous
            tasks.
        patch: side of the patches of images, in pixels.

    Vaswani et al. Attention Is All You Need. NeurIPS 2017. · Dosovitskiy et al. An Image is Worth 16x16 Words. ICLR
    2021. · Peebles, Xie. Scalable Diffusion Models with Transformers. ICCV 2023.
    """

    def __init__(
        self,
        spec: TaskSpec,
        *,
        width: int,
        heads: int,
        depth: int,
        expansion: int,
        positions: Literal["absolute", "relative", "both", "none"],
        causal: bool,
        time: bool,
        patch: int,
    ) -> None:
        check_sizes("network", width=width, heads=heads, depth=depth, expansion=expansion, patch=patch)
        _check_inputs(spec, patch)
        rotary = positions in {"relative", "both"}
        _check_heads(width, heads, rotary=rotary)
        self.spec, self.width, self.depth, self.patch = spec, width, depth, patch
        self.causal = causal
        self.sizes = LayerSizes(inner=width, heads=heads, hidden=expansion * width, causal=causal, rotary=rotary)
        self.absolute = positions in {"absolute", "both"}
        self.conditioning = width if time and not spec.autonomous else 0
        self.state_is_input = len(spec.input_shape) == 3 and spec.output_shape == ()
        self.state = spec.input_shape[0] if self.state_is_input else width

    def unused_options(self) -> Mapping[str, str]:
        return {} if len(self.spec.input_shape) == 3 else {"patch": "the inputs are no images"}

    @property
    def positions(self) -> int:
        """The number of positions."""
        if len(self.spec.input_shape) == 3:
            _, height, width = self.spec.input_shape
            return (height // self.patch) * (width // self.patch)
        return self.spec.input_shape[0]

    def stem(self) -> nn.Module:
        return nn.Identity() if self.state_is_input else nn.Sequential(*self._embedding(), FeaturesFirst())

    def field(self, *, extra: int = 0, given: int = 0) -> VectorField:
        return self._field(extra=extra, given=given, conditioning=self.conditioning)

    def block(self) -> Block:
        return TransformerBlock(self._field(conditioning=0))

    def head(self, *, extra: int = 0) -> nn.Module:
        """A linear layer: at each position if outputs are (positions, numbers), else on the mean over positions."""
        shape = self.spec.output_shape
        if self.state_is_input:
            pixels = math.prod(self.spec.input_shape[1:])
            return nn.Sequential(nn.Flatten(), nn.Linear((self.state + extra) * pixels, math.prod(shape)))
        mean = nn.Identity() if len(shape) == 2 else MeanOfPositions()
        norm, last = nn.LayerNorm(self.width + extra), nn.Linear(self.width + extra, shape[-1])
        return nn.Sequential(FeaturesFirst(), norm, mean, last)

    def denoiser(self, *, symbols: int, outputs: int, given: int = 0) -> VectorField:
        embedding = nn.Sequential(TokenEmbedding(symbols, self.width), *self._added_positions())
        return MappingField(
            embedding, self._layers(given=given, conditioning=self.conditioning), self._read_out(outputs)
        )

    def layer(self) -> Layer:
        """One layer, which does not receive the time."""
        return Layer(self.width, self.sizes)

    def _field(self, *, extra: int = 0, given: int = 0, conditioning: int) -> VectorField:
        if not self.state_is_input:
            return FeaturesField(self._layers(extra=extra, given=given, conditioning=conditioning))
        height = self.spec.input_shape[1] // self.patch
        numbers = (self.state + extra) * self.patch**2
        embedding = nn.Sequential(ToPatches(self.patch), nn.Linear(numbers, self.width), *self._added_positions())
        last = nn.Sequential(self._read_out(numbers), FromPatches(self.patch, height=height))
        return MappingField(embedding, self._layers(given=given, conditioning=conditioning), last)

    def _layers(self, *, extra: int = 0, given: int = 0, conditioning: int) -> "Layers":
        return Layers(self.width + extra, self.sizes, depth=self.depth, conditioning=conditioning, given=given)

    def _embedding(self) -> list[nn.Module]:
        shape = self.spec.input_shape
        if self.spec.tokens:
            return [TokenEmbedding(self.spec.tokens, self.width), *self._added_positions()]
        patches = [ToPatches(self.patch)] if len(shape) == 3 else []
        numbers = shape[0] * self.patch**2 if patches else shape[-1]
        return [*patches, nn.Linear(numbers, self.width), *self._added_positions()]

    def _added_positions(self) -> list[nn.Module]:
        return [Positions(self.positions, self.width)] if self.absolute else []

    def _read_out(self, outputs: int) -> nn.Module:
        return nn.Sequential(nn.LayerNorm(self.width), nn.Linear(self.width, outputs))


@final
class Layers(nn.Module):
    """The sum of the increments of several layers on features (batch, positions, features).

    If `conditioning` is not 0, an embedding of the time with so many numbers scales and shifts every normalisation.
    Given tensors, with `given` numbers for each sample (batch, given) or for each position (batch, given, positions),
    are added by a linear map.
    """

    def __init__(self, features: int, sizes: LayerSizes, *, depth: int, conditioning: int, given: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(features, sizes, conditioning=conditioning) for _ in range(depth))
        self.time = TimeFeatures(conditioning) if conditioning else None
        self.condition = nn.Linear(given, features, bias=False) if given else None

    def forward(self, t: Time, x: Tensor, given: Sequence[Tensor]) -> Tensor:
        conditioning = None if self.time is None else self.time(t)
        if self.condition is not None:
            x = x + self.condition(_at_positions(given, x.shape[1]))
        first, *others = self.layers
        total = first(x, conditioning)
        for layer in others:
            total = total + layer(x + total, conditioning)
        return total


@final
class FeaturesField(VectorField):
    """f(t, y, *given) on features (batch, features, positions)."""

    batched_time = True

    def __init__(self, layers: Layers) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, t: Time, y: State, *given: Tensor) -> State:
        return self.layers(t, y.mT, given).mT


@final
class MappingField(VectorField):
    """A Transformer between `embedding` and `last`; the latter reads features (batch, positions, features)."""

    batched_time = True

    def __init__(self, embedding: nn.Module, layers: Layers, last: nn.Module) -> None:
        super().__init__()
        self.embedding, self.layers, self.last = embedding, layers, last

    def forward(self, t: Time, y: Tensor, *given: Tensor) -> Tensor:
        x = self.embedding(y)
        return self.last(x + self.layers(t, x, given))


@final
class TransformerBlock(Block):
    """y + dt times a field without time."""

    def __init__(self, field: VectorField) -> None:
        super().__init__()
        self.field = field

    def forward(self, y: State, dt: float) -> State:
        return torch.add(y, self.field(y.new_zeros(()), y), alpha=dt)


@final
class MeanOfPositions(nn.Module):
    """The mean over the positions of features (batch, positions, features)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=1)


def _at_positions(given: Sequence[Tensor], positions: int) -> Tensor:
    """All given tensors, (batch, positions, given); vectors of a sample are repeated at each position."""
    parts = [z[:, None].expand(-1, positions, -1) if z.dim() == 2 else z.mT for z in given]
    return torch.cat(parts, dim=2)


def _check_inputs(spec: TaskSpec, patch: int) -> None:
    shape = spec.input_shape
    if spec.sequence or spec.series:
        raise IncompatibleChoice(
            "network=transformer reads tokens, rows of numbers or images, and this task gives series of observations. "
            "Use network=sequence, or network=mlp."
        )
    if len(shape) not in (2, 3) and not spec.tokens:
        raise IncompatibleChoice(
            f"network=transformer needs positions that see each other: tokens, rows of numbers or images; this task's "
            f"inputs have shape {shape}. Use network=mlp."
        )
    if len(shape) == 3 and any(side % patch for side in shape[1:]):
        raise IncompatibleChoice(
            f"network.patch={patch} does not divide images of {shape[1]}x{shape[2]} pixels. "
            f"Use network.patch={_dividing(patch, shape[1:])}."
        )


def _check_heads(width: int, heads: int, *, rotary: bool) -> None:
    if width % heads:
        raise RefusedInput(f"network.heads={heads} does not divide network.width={width}. Use network.heads=1.")
    if rotary and width // heads % 2:
        raise RefusedInput(
            f"relative positions turn pairs of numbers, and each of network.heads={heads} has "
            f"{width // heads}, an odd number. Use network.positions=absolute, or another network.width."
        )


def _dividing(patch: int, sides: Sequence[int]) -> int:
    """The largest side up to `patch` that divides all `sides`."""
    return max(side for side in range(1, patch + 1) if all(whole % side == 0 for whole in sides))
