"""The total variation distance between two distributions over finitely many states."""

import torch
from torch import Tensor


def total_variation(p: Tensor, q: Tensor) -> Tensor:
    """Half the sum of the absolute differences, from 0 to 1."""
    return (p - q).abs().sum() / 2


def expected_variation(distribution: Tensor, count: int) -> float:
    """The exact mean distance between a distribution and the frequencies of `count` independent samples from it.

    De Moivre: the mean absolute deviation of a binomial variable from n p is 2 k C(n, k) p^k (1 - p)^(n - k + 1), with
    k = floor(n p) + 1.

    Diaconis, Zabell. Closed Form Summation for Classical Distributions. Statistical Science 6, 1991.
    """
    p = distribution.double().clamp(0, 1)
    p = p[(p > 0) & (p < 1)]
    k, n = (count * p).floor() + 1, torch.tensor(float(count), dtype=p.dtype)
    ways = torch.lgamma(n + 1) - torch.lgamma(k) - torch.lgamma(n - k + 1)  # log k C(n, k)
    missed = 2 * (ways + k * p.log() + (n - k + 1) * torch.log1p(-p)).exp()
    return float(missed.sum() / (2 * count))
