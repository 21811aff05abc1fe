"""A price on the largest factors by which layers stretch."""

from typing import ClassVar, final

import torch
from torch import nn

from ode_runner.regularizers.base import Regularizer
from ode_runner.regularizers.depth_varying import Expanded
from ode_runner.regularizers.singular_values import squared_norm
from ode_runner.types import Scalar


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
