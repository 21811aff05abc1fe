"""Sampling of tokens from left to right."""

from dataclasses import dataclass, field
from typing import final

import torch
from torch import Tensor

from ode_runner.solvers.markov_chains.token_sampler import OrderedSampler


@final
@dataclass(frozen=True, kw_only=True)
class LeftToRight(OrderedSampler):
    """Masks are lifted from left to right; one in a step, and the law is that of the field.

    Several in a step are neighbours, which depend on each other most: the worst of the orders that are chosen so.

    Shannon. A Mathematical Theory of Communication. Bell System Technical Journal 27, 1948, section 3: texts token by
    token, each by those before it.
    """

    order: int = field(default=1, init=False)  # in law

    def score(self, denoised: Tensor, certainty: Tensor, uniform: Tensor) -> Tensor:
        return -torch.arange(uniform.shape[1], dtype=torch.float64, device=uniform.device).expand(uniform.shape)
