"""Convolutional layers for images, as in the MNIST network of the Neural ODE paper."""

import math
from typing import Literal, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ode_runner.batch import TaskSpec
from ode_runner.errors import IncompatibleChoice
from ode_runner.field import VectorField
from ode_runner.networks.base import Block, Network
from ode_runner.networks.channels import with_given
from ode_runner.networks.sizes import check_sizes
from ode_runner.networks.time_conv import TimeConv2d
from ode_runner.types import State, Time


@final
class Conv(Network):
    """`width` channels, with `depth` convolutions in the field and in each residual block.

    The stem is a 3x3 convolution, then at most two downsamplings that halve height and width, as long as the state
    remains at least `smallest_side` pixels wide. `stem="conv"` halves by a strided convolution, `stem="res"` by a
    residual block; on MNIST these are the two stems of the paper's script.

    Chen, Rubanova, Bettencourt, Duvenaud. Neural Ordinary Differential Equations. NeurIPS 2018, section 3.
    """

    of_images = True

    def __init__(
        self, spec: TaskSpec, *, stem: Literal["conv", "res"], width: int, depth: int, smallest_side: int
    ) -> None:
        check_sizes("network", width=width, depth=depth, smallest_side=smallest_side)
        self.spec = spec
        channels, *sides = spec.input_shape
        if min(sides) < 3:
            raise IncompatibleChoice(f"network=conv needs images of at least 3x3 pixels, not {sides}. Use network=mlp.")
        self.channels, self.outputs = channels, math.prod(spec.output_shape)
        self.kind, self.width, self.depth = stem, width, depth
        self.state = width
        self.halvings = _halvings(min(sides) - 2, smallest_side)

    def stem(self) -> nn.Module:
        first = nn.Conv2d(self.channels, self.width, 3)
        if self.kind == "res":
            return nn.Sequential(first, *(ResidualConv(self.width, self.depth, stride=2) for _ in range(self.halvings)))
        layers: list[nn.Module] = [first]
        for _ in range(self.halvings):
            layers += [_norm(self.width), nn.ReLU(inplace=True), nn.Conv2d(self.width, self.width, 4, 2, 1)]
        return nn.Sequential(*layers)

    def field(self, *, extra: int = 0, given: int = 0) -> VectorField:
        return ConvField(self.width + extra, self.depth, given=given)

    def block(self) -> Block:
        return ResidualConv(self.width, self.depth)

    def head(self, *, extra: int = 0) -> nn.Module:
        width = self.width + extra
        return nn.Sequential(
            _norm(width), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, self.outputs)
        )


@final
class ConvField(VectorField):
    """f(t, y, *given): (norm, ReLU, convolution over [t, y]) `depth` times, then norm; the first also reads `given`.

    `given` is not normalised: a velocity that begins at zero would be divided by its own size, and the field would
    jump.
    """

    batched_time = True

    def __init__(self, width: int, depth: int, *, given: int = 0) -> None:
        super().__init__()
        self.norms = nn.ModuleList(_norm(width) for _ in range(depth + 1))
        inputs = [width + given, *[width] * (depth - 1)]
        self.convolutions = nn.ModuleList(TimeConv2d(channels, width, size=3) for channels in inputs)

    def forward(self, t: Time, y: State, *given: Tensor) -> State:
        for norm, convolution in zip(self.norms, self.convolutions, strict=False):
            y = convolution(t, with_given(F.relu(norm(y), inplace=True), given))
            given = ()
        return self.norms[-1](y)


@final
class ResidualConv(Block):
    """Pre-activation residual block: (norm, ReLU, 3x3 convolution) `depth` times, plus the skip.

    With `stride` 2 the first convolution halves the image and the skip is a strided 1x1 convolution.
    """

    def __init__(self, width: int, depth: int, stride: int = 1) -> None:
        super().__init__()
        strides = [stride] + [1] * (depth - 1)
        self.norms = nn.ModuleList(_norm(width) for _ in range(depth))
        self.convolutions = nn.ModuleList(nn.Conv2d(width, width, 3, s, 1, bias=False) for s in strides)
        self.skip = nn.Conv2d(width, width, 1, stride, bias=False) if stride > 1 else None

    def forward(self, y: State, dt: float = 1.0) -> Tensor:
        out = F.relu(self.norms[0](y), inplace=True)
        shortcut = y if self.skip is None else self.skip(out)
        out = self.convolutions[0](out)
        for norm, convolution in zip(self.norms[1:], self.convolutions[1:], strict=True):
            out = convolution(F.relu(norm(out), inplace=True))
        return torch.add(shortcut, out, alpha=dt)


def _norm(width: int) -> nn.GroupNorm:
    """The paper's 32 groups, or the largest smaller number that divides `width`, as needed for augmented states."""
    return nn.GroupNorm(max(groups for groups in range(1, min(32, width) + 1) if width % groups == 0), width)


def _halvings(side: int, smallest: int) -> int:
    count = 0
    while count < 2 and side // 2 >= smallest:
        side, count = side // 2, count + 1
    return count
