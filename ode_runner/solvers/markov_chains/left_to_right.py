"""Sampling of tokens from left to right."""

from dataclasses import dataclass, field
from typing import final

import torch
from torch import Tensor

from ode_runner.solvers.markov_chains.token_sampler import OrderedSampler


@final
@dataclass(frozen=True, kw_only=True)
class LeftToRight(OrderedSampler):
    """Masks are lifted from left to right. With one token per step, the distribution of samples is exact.

    With several tokens per step it is the worst order, because neighbours, which depend most on each other, are drawn
    at once.

    Shannon. A Mathematical Theory of Communication. Bell System Technical Journal 27, 1948, section 3: texts token by
    token, each by those before it.
    """

    order: int = field(default=1, init=False)  # weak order

    def score(self, denoised: Tensor, certainty: Tensor, uniform: Tensor) -> Tensor:
        return -torch.arange(uniform.shape[1], dtype=torch.float64, device=uniform.device).expand(uniform.shape)
