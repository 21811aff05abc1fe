"""Convolutions with normalisations, as in the image networks of Dissecting Neural ODEs."""

import math
from typing import final

from torch import Tensor, nn

from ode_runner.batch import TaskSpec
from ode_runner.field import VectorField
from ode_runner.networks.base import Block, Network
from ode_runner.networks.channels import with_given
from ode_runner.networks.sizes import check_sizes
from ode_runner.types import State, Time

POOLED = 4  # height and width of the pooled image that the head's linear layer reads


@final
class ConvNorm(Network):
    """The state is the image, or the channels of a 3x3 convolution of it; the field does not depend on time.

    Each channel is normalised separately. Channels that begin at zero (of `model=augmented`, and the velocities of
    `model=second_order`) are divided by their own size while it is small, so that adaptive solvers begin with short
    steps. The head has few channels, and pools them to 4x4 pixels.

    Massaroli, Poli, Park, Yamashita, Asama. Dissecting Neural ODEs. NeurIPS 2020, image classification: for images of
    3x32x32, its four models have the numbers of parameters of its code.

    Args:
        width: channels within the field.
        stem: channels of the state; None: the state is the image itself.
        head: channels that are pooled.
    """

    of_images = True

    def __init__(self, spec: TaskSpec, *, width: int, stem: int | None, head: int) -> None:
        check_sizes("network", width=width, head=head, **({} if stem is None else {"stem": stem}))
        self.spec, self.width, self.pooled = spec, width, head
        self.channels, self.outputs = spec.input_shape[0], math.prod(spec.output_shape)
        self.state_is_input = stem is None
        self.state = self.channels if stem is None else stem

    def stem(self) -> nn.Module:
        return nn.Identity() if self.state_is_input else nn.Conv2d(self.channels, self.state, 3, 1, 1, bias=False)

    def field(self, *, extra: int = 0, given: int = 0) -> VectorField:
        return ConvNormField(self.state + extra, self.width, given=given)

    def block(self) -> Block:
        return ConvNormBlock(self.state, self.width)

    def head(self, *, extra: int = 0) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(self.state + extra, self.pooled, 1),
            nn.AdaptiveAvgPool2d(POOLED),
            nn.Flatten(),
            nn.Linear(self.pooled * POOLED**2, self.outputs),
        )


@final
class ConvNormField(VectorField):
    """f(y, *given): norm, 3x3 convolution, softplus, the same convolution again, norm, 1x1 convolution."""

    batched_time = True

    def __init__(self, channels: int, width: int, *, given: int = 0) -> None:
        super().__init__()
        self.layers = _layers(channels + given, width, channels)

    def forward(self, t: Time, y: State, *given: Tensor) -> State:
        del t
        out: Tensor = self.layers(with_given(y, given))
        return out


@final
class ConvNormBlock(Block):
    """y + dt times the same layers."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.layers = _layers(channels, width, channels)

    def forward(self, y: State, dt: float) -> State:
        return y + dt * self.layers(y)


def _layers(inputs: int, width: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.GroupNorm(inputs, inputs), nn.Conv2d(inputs, width, 3, padding=1, bias=False), nn.Softplus(),
        nn.Conv2d(width, width, 3, padding=1, bias=False), nn.Softplus(), nn.GroupNorm(width, width),
        nn.Conv2d(width, outputs, 1),
    )  # fmt: skip
