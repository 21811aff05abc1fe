"""Sampling of tokens, those of the least entropy first."""

from dataclasses import dataclass, field
from typing import Literal, final

import torch
from torch import Tensor

from ode_runner.solvers.markov_chains.token_sampler import OrderedSampler

ROUNDING = 1e-6  # nats, of a law in single precision


@final
@dataclass(frozen=True, kw_only=True)
class Entropy(OrderedSampler):
    """Masks are lifted in the order of the entropy of what they may be.

    The order depends on the text so far, and not on what is drawn: one in a step, and the law is that of the field.
    Entropies of a stationary law are equal as long as all is masked, but for rounding.

    Args:
        ties: the order of equal entropies, `random` or by `position`, the first ones first. Neighbours, which depend on
            each other most, are then drawn at once.

    Our own; Chang, Zhang, Jiang, Liu, Freeman. MaskGIT: Masked Generative Image Transformer. CVPR 2022, for an order by
    how sure the model is.
    """

    ties: Literal["random", "position"]
    order: int = field(default=1, init=False)  # in law

    def score(self, denoised: Tensor, certainty: Tensor, uniform: Tensor) -> Tensor:
        entropy = -torch.special.xlogy(denoised, denoised).sum(dim=-1)
        places = torch.arange(entropy.shape[1], device=entropy.device)
        return ROUNDING * (uniform if self.ties == "random" else -places) - entropy
