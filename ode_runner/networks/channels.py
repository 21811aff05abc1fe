"""Operations on the first axis of states after the batch (features or channels), with any number of further axes."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from ode_runner.types import State


@final
class ChannelMap(nn.Linear):
    """A linear layer on features, or on the channels of each pixel: a 1x1 convolution."""

    def forward(self, y: Tensor) -> Tensor:
        return super().forward(y.movedim(1, -1)).movedim(-1, 1)


def with_given(y: State, given: Sequence[Tensor]) -> Tensor:
    """`y` with the given tensors appended, along the first axis after the batch.

    A vector for each sample, (batch, features), is repeated for every pixel of an image.
    """
    return torch.cat([y, *(_in_every_place(z, y) for z in given)], dim=1) if given else y


def _in_every_place(z: Tensor, y: State) -> Tensor:
    return z if z.dim() == y.dim() else z.view(*z.shape, *[1] * (y.dim() - 2)).expand(*z.shape, *y.shape[2:])
