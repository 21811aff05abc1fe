"""Sampling of tokens, the most probable ones first (MaskGIT)."""

from dataclasses import dataclass, field
from typing import final

from torch import Tensor

from ode_runner.solvers.markov_chains.token_sampler import OrderedSampler


@final
@dataclass(frozen=True, kw_only=True)
class Confidence(OrderedSampler):
    """A token is drawn for every mask; the most probable draws are kept.

    This is mode-seeking: improbable tokens are drawn again until a probable one comes. Samples are more often valid,
    but their distribution is biased, however many steps there are. So it has no order.

    Chang, Zhang, Jiang, Liu, Freeman. MaskGIT: Masked Generative Image Transformer. CVPR 2022.
    """

    order: int = field(default=0, init=False)

    def score(self, denoised: Tensor, certainty: Tensor, uniform: Tensor) -> Tensor:
        return certainty
