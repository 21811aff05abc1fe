"""What models tell regularisers of parameters that change with depth."""

import abc
from collections.abc import Iterable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from ode_runner.types import Scalar


class DepthVarying(nn.Module, abc.ABC):
    """A model whose parameters theta change with depth."""

    @abc.abstractmethod
    def roughness(self) -> Scalar:
        """The integral over depth of |dtheta/dt|^2; of pieces, the sum of squared differences by their distance."""


class Layered(DepthVarying):
    """A model of modules of one build one after another, which says what states are between them (`TakesStates`)."""

    @property
    @abc.abstractmethod
    def pieces(self) -> Sequence[nn.Module]:
        """The modules, from the first to the last."""

    def roughness(self) -> Scalar:
        return squared_differences(self.pieces) * len(self.pieces)

    def residuals(self, inputs: Tensor) -> Tensor:
        """How far each sweep of a layer that iterates moves its state, relative to it, as means over samples.

        (layer, sweep); no rows where layers do not iterate.
        """
        return inputs.new_zeros(0, 1, dtype=torch.float64)


class Expanded(DepthVarying):
    """A model whose parameters are coefficients of functions of depth, and no weights of layers."""

    @property
    @abc.abstractmethod
    def last_depth(self) -> float | None:
        """The time beyond which the functions are not defined; None where they go on."""


def squared_differences(pieces: Iterable[nn.Module]) -> Scalar:
    """The sum of |theta_k+1 - theta_k|^2 over modules of one build, one after another."""
    total = torch.zeros(())
    for one, other in pairwise(pieces):
        for p, q in zip(one.parameters(), other.parameters(), strict=True):
            total = total + (q - p).square().sum()
    return total
