"""The largest singular values of weights."""

import torch
from torch import Tensor

FREQUENCIES = 8  # along each axis of an image


def squared_norm(weight: Tensor) -> Tensor:
    """The squared largest singular value of a matrix (out, in), or of a convolution (out, in, *kernel)."""
    maps = weight[None] if weight.dim() == 2 else _of_frequencies(weight)
    small = maps @ maps.mH if maps.shape[1] <= maps.shape[2] else maps.mH @ maps
    return torch.linalg.eigvalsh(small)[:, -1].max()


def _of_frequencies(kernel: Tensor) -> Tensor:
    """The transfer matrices of a convolution with periodic boundaries: (frequency, out, in), complex.

    Those of a real kernel are in conjugate pairs, of which only one is returned.
    """
    sides = [max(FREQUENCIES, side) for side in kernel.shape[2:]]
    waves = torch.fft.rfftn(kernel, s=sides, dim=list(range(2, kernel.dim())))
    return waves.flatten(2).permute(2, 0, 1).reshape(-1, *kernel.shape[:2])
