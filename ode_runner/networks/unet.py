"""A U-Net: convolutions on an image at several resolutions, from fine to coarse and back."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ode_runner.batch import TaskSpec
from ode_runner.errors import IncompatibleChoice
from ode_runner.field import VectorField
from ode_runner.networks.base import Block, Network
from ode_runner.networks.channels import with_given
from ode_runner.networks.sizes import check_sizes
from ode_runner.networks.time_features import TimeFeatures
from ode_runner.types import State, Time


@final
class UNet(Network):
    """The state is the image, without a stem; the head is a linear layer on all its numbers.

    The field has a residual block at each resolution on the way down, one at the coarsest, and one at each on the way
    up, which also receives the output of the way down at its resolution. Time and given tensors scale and shift every
    block.

    Args:
        width: channels at full resolution.
        multipliers: of `width`, one for each resolution; each but the first halves height and width.
        attention: whether the coarsest image has self-attention.

    Ronneberger, Fischer, Brox. U-Net. MICCAI 2015. · Ho, Jain, Abbeel. Denoising Diffusion Probabilistic Models.
    NeurIPS 2020, appendix B. · Perez, Strub, de Vries, Dumoulin, Courville. FiLM. AAAI 2018, for scale and shift.
    """

    state_is_input = True
    of_images = True

    def __init__(self, spec: TaskSpec, *, width: int, multipliers: Sequence[int], attention: bool) -> None:
        check_sizes("network", width=width, multipliers=min(multipliers, default=0))
        self.spec = spec
        self.state, *sides = spec.input_shape
        if 2 ** (len(multipliers) - 1) > min(sides):
            raise IncompatibleChoice(
                f"network.multipliers={list(multipliers)} halve an image {len(multipliers) - 1} times, and those of "
                f"this task have {sides[0]}x{sides[1]} pixels. Use fewer of them."
            )
        self.widths, self.attention = [width * multiplier for multiplier in multipliers], attention
        self.pixels, self.outputs = math.prod(sides), math.prod(spec.output_shape)

    def stem(self) -> nn.Module:
        return nn.Identity()

    def field(self, *, extra: int = 0, given: int = 0) -> VectorField:
        return UNetField(self.state + extra, self.widths, given=given, attention=self.attention)

    def block(self) -> Block:
        return UNetBlock(UNetField(self.state, self.widths, given=0, attention=self.attention))

    def head(self, *, extra: int = 0) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear((self.state + extra) * self.pixels, self.outputs))


@final
class UNetField(VectorField):
    """f(t, y, *given) on images (batch, channels, height, width)."""

    batched_time = True

    def __init__(self, channels: int, widths: Sequence[int], *, given: int, attention: bool) -> None:
        super().__init__()
        finest, coarsest = widths[0], widths[-1]
        embedded = 4 * finest  # size of the embedding that scales and shifts blocks
        self.time = TimeFeatures(embedded)
        self.condition = nn.Linear(given, embedded, bias=False) if given else None
        self.first = nn.Conv2d(channels + given, finest, 3, padding=1)
        self.down = nn.ModuleList(ConditionedBlock(a, b, embedded) for a, b in pairwise([finest, *widths]))
        self.halve = nn.ModuleList(nn.Conv2d(width, width, 3, stride=2, padding=1) for width in widths[:-1])
        self.middle = ConditionedBlock(coarsest, coarsest, embedded)
        self.attention = SelfAttention(coarsest) if attention else nn.Identity()
        up = [coarsest, *reversed(widths)]
        self.up = nn.ModuleList(ConditionedBlock(a + b, b, embedded) for a, b in pairwise(up))
        self.last = nn.Sequential(_norm(finest), nn.SiLU(), nn.Conv2d(finest, channels, 3, padding=1))

    def forward(self, t: Time, y: State, *given: Tensor) -> State:
        embedding, x, across = self._embedding(t, given), self.first(with_given(y, given)), list[Tensor]()
        for i, block in enumerate(self.down):
            x = block(self.halve[i - 1](x) if i else x, embedding)
            across.append(x)
        x = self.attention(self.middle(x, embedding))
        for block in self.up:
            finer = across.pop()
            x = block(torch.cat([F.interpolate(x, size=finer.shape[2:]), finer], dim=1), embedding)
        return self.last(x)

    def _embedding(self, t: Time, given: Sequence[Tensor]) -> Tensor:
        """The embedding of time and condition, (batch or 1, embedded); given images are averaged over their pixels."""
        time = self.time(t)
        if self.condition is None:
            return time
        return time + self.condition(torch.cat([z.flatten(2).mean(dim=2) if z.dim() > 2 else z for z in given], dim=1))


@final
class UNetBlock(Block):
    """y + dt times a U-Net at time 0."""

    def __init__(self, field: UNetField) -> None:
        super().__init__()
        self.field = field

    def forward(self, y: State, dt: float) -> State:
        return torch.add(y, self.field(y.new_zeros(()), y), alpha=dt)


@final
class ConditionedBlock(nn.Module):
    """Two 3x3 convolutions and a skip connection; between them, the embedding scales and shifts the channels."""

    def __init__(self, inputs: int, outputs: int, embedded: int) -> None:
        super().__init__()
        self.first = nn.Sequential(_norm(inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1))
        self.norm = _norm(outputs)
        self.told = nn.Linear(embedded, 2 * outputs)  # the name in checkpoints
        self.second = nn.Sequential(nn.SiLU(), nn.Conv2d(outputs, outputs, 3, padding=1))
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.told(embedding)[:, :, None, None].chunk(2, dim=1)
        return self.skip(x) + self.second(torch.addcmul(shift, 1 + scale, self.norm(self.first(x))))


@final
class SelfAttention(nn.Module):
    """x + W softmax(q k^T / sqrt(channels)) v over the pixels, with one head."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = _norm(channels)
        self.read, self.write = nn.Conv2d(channels, 3 * channels, 1), nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.read(self.norm(x)).flatten(2).chunk(3, dim=1)
        weights = (q.mT @ k / math.sqrt(q.shape[1])).softmax(dim=2)
        return x + self.write((v @ weights.mT).view_as(x))


def _norm(channels: int) -> nn.GroupNorm:
    """Group norm, with groups of two channels or more and at most eight groups."""
    return nn.GroupNorm(math.gcd(8, max(channels // 2, 1)), channels)
