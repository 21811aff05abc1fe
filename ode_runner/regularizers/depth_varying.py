"""Interfaces of models by which regularisers tell them: parameters that change with depth, and the end of a series."""

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
        """The integral over depth of |dtheta/dt|^2; for piecewise constant theta, sum |difference|^2 / distance."""


class Layered(DepthVarying):
    """A model of consecutive modules of one architecture, which reports the states between them (`TakesStates`)."""

    @property
    @abc.abstractmethod
    def pieces(self) -> Sequence[nn.Module]:
        """The modules, from the first to the last."""

    def roughness(self) -> Scalar:
        return squared_differences(self.pieces) * len(self.pieces)

    def residuals(self, inputs: Tensor) -> Tensor:
        """The change of a state in each sweep of an iterating layer, relative to its size, averaged over samples.

        (layer, sweep); no rows if layers do not iterate.
        """
        return inputs.new_zeros(0, 1, dtype=torch.float64)


class Expanded(DepthVarying):
    """A model whose parameters are coefficients of basis functions of depth, instead of weights of layers."""

    @property
    @abc.abstractmethod
    def last_depth(self) -> float | None:
        """The time beyond which the basis functions are not defined; None: they are defined for all times."""


class EndsWithSeries:
    """A model driven by the rows of a series, whose state stands still after the last of them."""


def squared_differences(pieces: Iterable[nn.Module]) -> Scalar:
    """The sum of |theta_k+1 - theta_k|^2 over consecutive modules of the same architecture."""
    total = torch.zeros(())
    for one, other in pairwise(pieces):
        for p, q in zip(one.parameters(), other.parameters(), strict=True):
            total = total + (q - p).square().sum()
    return total
