"""Convolutions over the channels of an image and the time."""

import math
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ode_runner.field import broadcast_time
from ode_runner.types import Time


@final
class TimeConv2d(nn.Module):
    """A convolution of `size` x `size` pixels (odd) over the channels [t, y], without concatenating them.

    A convolution is linear in its input: the constant channel t adds a map that is the same for the whole batch, or for
    each sample if times differ. The function and its parameters are the same, with one copy of the state less per
    evaluation.
    """

    def __init__(self, inputs: int, outputs: int, *, size: int) -> None:
        super().__init__()
        self.padding = size // 2
        bound = 1 / math.sqrt((inputs + 1) * size**2)  # torch's default for a convolution with inputs + 1 channels
        self.weight = nn.Parameter(torch.empty(outputs, inputs, size, size).uniform_(-bound, bound))
        self.time_weight = nn.Parameter(torch.empty(outputs, 1, size, size).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(outputs).uniform_(-bound, bound))

    def forward(self, t: Time, y: Tensor) -> Tensor:
        time = broadcast_time(t, y).to(y.dtype).expand(len(t) if t.dim() else 1, 1, *y.shape[2:])
        of_time = F.conv2d(time, self.time_weight, self.bias, padding=self.padding)
        return F.conv2d(y, self.weight, padding=self.padding) + of_time
