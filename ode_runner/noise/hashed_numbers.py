"""Counter-based random numbers: each is a hash of integers, so that none is stored and their order does not matter.

Steele, Lea, Flood. Fast Splittable Pseudorandom Number Generators. OOPSLA 2014, for the hash.
"""

import math

from torch import Tensor

GOLDEN = 0x9E3779B97F4A7C15  # 2 ** 64 over the golden ratio, odd
FIRST, SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
WORD = (1 << 64) - 1


def hashed_number(x: int) -> int:
    """The finaliser of splitmix64 on an integer modulo 2 ** 64."""
    x = (x + GOLDEN) & WORD
    x = (x ^ (x >> 30)) * FIRST & WORD
    x = (x ^ (x >> 27)) * SECOND & WORD
    return x ^ (x >> 31)


def hashed(x: Tensor) -> Tensor:
    """`hashed_number` on int64 tensors, whose products wrap around and whose right shifts extend the sign.

    Operations are in place, because allocation costs more than the computation.
    """
    x = x + signed(GOLDEN)
    x.bitwise_xor_(_shifted(x, 30)).mul_(signed(FIRST))
    x.bitwise_xor_(_shifted(x, 27)).mul_(signed(SECOND))
    return x.bitwise_xor_(_shifted(x, 31))


def _shifted(x: Tensor, bits: int) -> Tensor:
    """A logical right shift, without the sign."""
    return (x >> bits).bitwise_and_(WORD >> bits)


def signed(x: int) -> int:
    """The int64 with the same bits."""
    return x - (x >> 63 << 64)


def normals(hashes: Tensor) -> tuple[Tensor, Tensor]:
    """Two independent standard normal numbers from each hash, by the Box-Muller transform, float64."""
    radius = uniform(hashes).log_().mul_(-2).sqrt_()
    angle = uniform(hashed(hashes)).mul_(2 * math.pi)
    return angle.cos().mul_(radius), angle.sin().mul_(radius)


def uniform(hashes: Tensor) -> Tensor:
    """A uniform number in (0, 1] from each hash, float64."""
    return _shifted(hashes, 11).double().mul_(2**-53).add_(2**-54)


def draw_categorical(weights: Tensor, uniform: Tensor) -> Tensor:
    """An index of the last axis, drawn with probabilities proportional to `weights`, from a uniform number."""
    sums = weights.cumsum(dim=-1)
    below = sums < uniform[..., None] * sums[..., -1:]
    return below.sum(dim=-1).clamp(max=weights.shape[-1] - 1)
