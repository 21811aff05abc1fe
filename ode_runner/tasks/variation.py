"""The distance of two laws of finitely many states."""

import torch
from torch import Tensor


def total_variation(law: Tensor, other: Tensor) -> Tensor:
    """Half the sum of the differences, from 0 to 1."""
    return (law - other).abs().sum() / 2


def expected_variation(law: Tensor, count: int) -> float:
    """The mean distance of the frequencies in so many independent samples of a law from it, exactly.

    De Moivre: n p on average misses a binomial number by 2 k C(n, k) p^k (1 - p)^(n - k + 1), k being floor(n p) + 1.

    Diaconis, Zabell. Closed Form Summation for Classical Distributions. Statistical Science 6, 1991.
    """
    p = law.double().clamp(0, 1)
    p = p[(p > 0) & (p < 1)]
    k, n = (count * p).floor() + 1, torch.tensor(float(count), dtype=p.dtype)
    ways = torch.lgamma(n + 1) - torch.lgamma(k) - torch.lgamma(n - k + 1)  # log k C(n, k)
    missed = 2 * (ways + k * p.log() + (n - k + 1) * torch.log1p(-p)).exp()
    return float(missed.sum() / (2 * count))
