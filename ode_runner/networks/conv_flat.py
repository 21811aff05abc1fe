"""Convolutions on the images themselves, as in the network of Augmented Neural ODEs."""

import math
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ode_runner.batch import TaskSpec
from ode_runner.field import VectorField
from ode_runner.networks.base import Block, Network
from ode_runner.networks.channels import with_given
from ode_runner.networks.sizes import check_sizes
from ode_runner.networks.time_conv import TimeConv2d
from ode_runner.types import State, Time


@final
class ConvFlat(Network):
    """The state is the image, without a stem; the head is a linear layer on all its numbers.

    The field is a 1x1, a 3x3 and a 1x1 convolution over time and state, with `width` channels and ReLU between them.
    Without a stem, the ODE block does the work. An augmented state also enlarges the head.

    Dupont, Doucet, Teh. Augmented Neural ODEs. NeurIPS 2019, section 5.
    """

    state_is_input = True
    of_images = True

    def __init__(self, spec: TaskSpec, *, width: int) -> None:
        check_sizes("network", width=width)
        self.spec, self.width = spec, width
        self.state, *sides = spec.input_shape
        self.pixels, self.outputs = math.prod(sides), math.prod(spec.output_shape)

    def stem(self) -> nn.Module:
        return nn.Identity()

    def field(self, *, extra: int = 0, given: int = 0) -> VectorField:
        return ConvFlatField(self.state + extra, self.width, given=given)

    def block(self) -> Block:
        return ConvFlatBlock(self.state, self.width)

    def head(self, *, extra: int = 0) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear((self.state + extra) * self.pixels, self.outputs))


@final
class ConvFlatField(VectorField):
    """f(t, y, *given) by 1x1, 3x3 and 1x1 convolutions over [t, y]; the first also reads `given`."""

    batched_time = True

    def __init__(self, channels: int, width: int, *, given: int = 0) -> None:
        super().__init__()
        self.first = TimeConv2d(channels + given, width, size=1)
        self.middle = TimeConv2d(width, width, size=3)
        self.last = TimeConv2d(width, channels, size=1)

    def forward(self, t: Time, y: State, *given: Tensor) -> State:
        y = F.relu(self.first(t, with_given(y, given)))
        return self.last(t, F.relu(self.middle(t, y)))


@final
class ConvFlatBlock(Block):
    """y + dt times the same convolutions, without time."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU(),
            nn.Conv2d(width, channels, 1),
        )  # fmt: skip

    def forward(self, y: State, dt: float) -> State:
        return torch.add(y, self.layers(y), alpha=dt)
