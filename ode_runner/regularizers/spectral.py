"""A price on the largest factors by which layers stretch."""

from typing import ClassVar, final

import torch
from torch import Tensor, nn

from ode_runner.regularizers.base import Regularizer
from ode_runner.regularizers.depth_varying import Expanded
from ode_runner.types import Scalar

FREQUENCIES = 8  # along each axis of an image


@final
class Spectral(Regularizer):
    """The sum over all weights of the square of their largest singular value, by eigenvalues and not by iteration, so
    that it has no state.

    A weight is a parameter of two axes or more. One of more than two is the kernel of a convolution, and its singular
    values are those of the convolution itself, on images with wrapped edges of 8 pixels a side or, where the kernel is
    larger, of its size; those of the kernel as a matrix are none of its.

    Yoshida, Miyato. Spectral Norm Regularization for Improving the Generalizability of Deep Learning. 2017. · Sedghi,
    Gupta, Long. The Singular Values of Convolutional Layers. ICLR 2019.
    """

    needs_solve: ClassVar[bool] = False
    excludes: ClassVar[tuple[type, ...]] = (Expanded,)
    requirement: ClassVar[str] = "weights that do not change with depth"

    def penalty(self, model: nn.Module) -> Scalar | None:
        weights = [p for p in model.parameters() if p.dim() >= 2 and p.requires_grad]
        return torch.stack([squared_norm(weight) for weight in weights]).sum() if weights else None


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
