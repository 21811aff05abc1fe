"""Random numbers that are a hash of whole numbers, so that none is kept, and their order does not matter.

Steele, Lea, Flood. Fast Splittable Pseudorandom Number Generators. OOPSLA 2014, for the hash.
"""

import math

import torch
from torch import Tensor

GOLDEN = 0x9E3779B97F4A7C15  # 2 ** 64 over the golden ratio, odd
FIRST, SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
WORD = (1 << 64) - 1


def mixed_number(x: int) -> int:
    """The finaliser of splitmix64, of a whole number modulo 2 ** 64."""
    x = (x + GOLDEN) & WORD
    x = (x ^ (x >> 30)) * FIRST & WORD
    x = (x ^ (x >> 27)) * SECOND & WORD
    return x ^ (x >> 31)


def mixed(x: Tensor) -> Tensor:
    """The same on int64, whose products wrap and whose shifts bring in the sign."""
    x = x + signed(GOLDEN)
    x = (x ^ ((x >> 30) & (WORD >> 30))) * signed(FIRST)
    x = (x ^ ((x >> 27) & (WORD >> 27))) * signed(SECOND)
    return x ^ ((x >> 31) & (WORD >> 31))


def signed(x: int) -> int:
    """The int64 of the same bits."""
    return x - (x >> 63 << 64)


def normals(hashes: Tensor) -> Tensor:
    """Two independent normal numbers of each hash, by Box and Muller: (*shape, 2), in double precision."""
    u, v = uniform(hashes), uniform(mixed(hashes))
    radius, angle = (-2 * u.log()).sqrt(), 2 * math.pi * v
    return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=-1)


def uniform(hashes: Tensor) -> Tensor:
    """A number between 0 and 1 of each hash, neither of which it is."""
    return ((hashes >> 11) & (WORD >> 11)).double() * 2**-53 + 2**-54


def chosen(weights: Tensor, uniform: Tensor) -> Tensor:
    """Which entry of the last axis is drawn, with probabilities in proportion to them, by a number from 0 to 1."""
    sums = weights.cumsum(dim=-1)
    below = sums < uniform[..., None] * sums[..., -1:]
    return below.sum(dim=-1).clamp(max=weights.shape[-1] - 1)
