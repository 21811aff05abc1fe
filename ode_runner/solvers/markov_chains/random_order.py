"""Sampling of tokens in a random order."""

from dataclasses import dataclass, field
from typing import final

from torch import Tensor

from ode_runner.solvers.markov_chains.token_sampler import OrderedSampler


@final
@dataclass(frozen=True, kw_only=True)
class RandomOrder(OrderedSampler):
    """Masks are lifted in a random order; one in a step, and the law is that of the field.

    Of order 1 in law, like ancestral sampling, but with the number of tokens of a step fixed.

    Uria, Murray, Larochelle. A Deep and Tractable Density Estimator. ICML 2014, for orders of any kind.
    """

    order: int = field(default=1, init=False)  # in law

    def score(self, denoised: Tensor, certainty: Tensor, uniform: Tensor) -> Tensor:
        return uniform
