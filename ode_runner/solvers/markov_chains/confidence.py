"""Sampling of tokens, the most certain ones first."""

from dataclasses import dataclass, field
from typing import final

from torch import Tensor

from ode_runner.solvers.markov_chains.token_sampler import OrderedSampler


@final
@dataclass(frozen=True, kw_only=True)
class Confidence(OrderedSampler):
    """A token is drawn for every mask, and those are kept that were most probable.

    This seeks modes: improbable tokens are drawn anew until probable ones have come, so that samples are more often
    valid, and of another law, however many steps there are. Of no order.

    Chang, Zhang, Jiang, Liu, Freeman. MaskGIT: Masked Generative Image Transformer. CVPR 2022.
    """

    order: int = field(default=0, init=False)

    def score(self, denoised: Tensor, certainty: Tensor, uniform: Tensor) -> Tensor:
        return certainty
