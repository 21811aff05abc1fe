"""Sampling of tokens, those with the lowest entropy first."""

from dataclasses import dataclass, field
from typing import Literal, final

import torch
from torch import Tensor

from ode_runner.solvers.markov_chains.token_sampler import OrderedSampler

ROUNDING = 1e-6  # nats, of an entropy in single precision


@final
@dataclass(frozen=True, kw_only=True)
class Entropy(OrderedSampler):
    """Masks are lifted in the order of the entropy of their tokens' distributions.

    The order depends on the present text and not on the draws. So with one token per step, the distribution of samples
    is exact. For a stationary distribution, all entropies are equal, up to rounding, as long as everything is masked.

    Args:
        ties: the order of equal entropies: `random`, or by `position` from the left. With `position`, neighbours, which
            depend most on each other, are drawn at once.

    Our own; see Chang, Zhang, Jiang, Liu, Freeman. MaskGIT: Masked Generative Image Transformer. CVPR 2022, for an
    order by confidence.
    """

    ties: Literal["random", "position"]
    order: int = field(default=1, init=False)  # weak order

    def score(self, denoised: Tensor, certainty: Tensor, uniform: Tensor) -> Tensor:
        entropy = -torch.special.xlogy(denoised, denoised).sum(dim=-1)
        places = torch.arange(entropy.shape[1], device=entropy.device)
        return ROUNDING * (uniform if self.ties == "random" else -places) - entropy
