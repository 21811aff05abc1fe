"""Learned diffusions for diagonal noise: positive, and of each state element separately."""

from typing import Literal, final

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ode_runner.types import State

Form = Literal["constant", "elementwise"]
BEGINNING = 0.5413  # softplus of this initial value is 1


@final
class ConstantDiffusion(nn.Module):
    """A positive parameter for each element of a state (batch, size)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.full((size,), BEGINNING))

    def forward(self, y: State) -> Tensor:
        return softplus(self.bias).expand_as(y)


@final
class ElementwiseDiffusion(nn.Module):
    """A positive function of each element separately: one hidden layer of `width` tanh units for each."""

    def __init__(self, size: int, *, width: int) -> None:
        super().__init__()
        self.weight, self.shift = nn.Parameter(torch.randn(size, width)), nn.Parameter(torch.randn(size, width))
        self.out = nn.Parameter(torch.randn(size, width) / width**0.5)
        self.bias = nn.Parameter(torch.full((size,), BEGINNING))

    def forward(self, y: State) -> Tensor:
        hidden = torch.addcmul(self.shift, y[..., None], self.weight).tanh()
        return softplus((hidden * self.out).sum(dim=-1) + self.bias)


def learned_diffusion(form: Form, size: int, width: int) -> nn.Module:
    """A learned diffusion for states of `size` elements."""
    return ConstantDiffusion(size) if form == "constant" else ElementwiseDiffusion(size, width=width)
