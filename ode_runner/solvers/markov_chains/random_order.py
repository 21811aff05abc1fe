"""Sampling of tokens in a random order."""

from dataclasses import dataclass, field
from typing import final

from torch import Tensor

from ode_runner.solvers.markov_chains.token_sampler import OrderedSampler


@final
@dataclass(frozen=True, kw_only=True)
class RandomOrder(OrderedSampler):
    """Masks are lifted in a random order. With one token per step, the distribution of samples is exact.

    The weak order is 1, as for ancestral sampling, but the number of tokens per step is fixed.

    Uria, Murray, Larochelle. A Deep and Tractable Density Estimator. ICML 2014, for orders of any kind.
    """

    order: int = field(default=1, init=False)  # weak order

    def score(self, denoised: Tensor, certainty: Tensor, uniform: Tensor) -> Tensor:
        return uniform
