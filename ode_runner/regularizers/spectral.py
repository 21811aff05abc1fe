"""A penalty on the spectral norms of weights."""

from typing import ClassVar, final

import torch
from torch import nn

from ode_runner.regularizers.base import Regularizer
from ode_runner.regularizers.depth_varying import Expanded
from ode_runner.regularizers.singular_values import squared_norm
from ode_runner.types import Scalar


@final
class Spectral(Regularizer):
    """The sum over all weights of their squared spectral norm, computed by eigenvalues.

    Without a power iteration, it has no state. A weight is a parameter with at least two axes. With more than two it is
    the kernel of a convolution; its singular values are those of the convolution itself, on images with periodic
    boundaries and 8 pixels a side (or the size of a larger kernel), not those of the kernel reshaped to a matrix.

    Yoshida, Miyato. Spectral Norm Regularization for Improving the Generalizability of Deep Learning. 2017. · Sedghi,
    Gupta, Long. The Singular Values of Convolutional Layers. ICLR 2019.
    """

    needs_solve: ClassVar[bool] = False
    excludes: ClassVar[tuple[type, ...]] = (Expanded,)
    requirement: ClassVar[str] = "weights that do not change with depth"

    def penalty(self, model: nn.Module) -> Scalar | None:
        weights = [p for p in model.parameters() if p.dim() >= 2 and p.requires_grad]
        return torch.stack([squared_norm(weight) for weight in weights]).sum() if weights else None
