"""The largest factors by which weights stretch."""

import torch
from torch import Tensor

FREQUENCIES = 8  # along each axis of an image


def squared_norm(weight: Tensor) -> Tensor:
    """The square of the largest singular value of a matrix (out, in), or of a convolution (out, in, *kernel)."""
    maps = weight[None] if weight.dim() == 2 else _of_frequencies(weight)
    small = maps @ maps.mH if maps.shape[1] <= maps.shape[2] else maps.mH @ maps
    return torch.linalg.eigvalsh(small)[:, -1].max()


def _of_frequencies(kernel: Tensor) -> Tensor:
    """What a convolution with wrapped edges does to each wave: (frequency, out, in), complex.

    Those of a real kernel come in pairs of conjugates, of which one is enough.
    """
    sides = [max(FREQUENCIES, side) for side in kernel.shape[2:]]
    waves = torch.fft.rfftn(kernel, s=sides, dim=list(range(2, kernel.dim())))
    return waves.flatten(2).permute(2, 0, 1).reshape(-1, *kernel.shape[:2])
