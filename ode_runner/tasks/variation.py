"""The distance of two laws of finitely many states."""

import math

from torch import Tensor


def total_variation(law: Tensor, other: Tensor) -> Tensor:
    """Half the sum of the differences, from 0 to 1."""
    return (law - other).abs().sum() / 2


def expected_variation(law: Tensor, count: int) -> float:
    """How far the frequencies in so many independent samples of a law are off it, on average, by the central limit."""
    return float((2 * law * (1 - law) / (math.pi * count)).sqrt().sum() / 2)
