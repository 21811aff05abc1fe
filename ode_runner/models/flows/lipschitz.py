"""A fully connected network with a bounded Lipschitz constant."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import final

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, softplus

from ode_runner.networks.dense import AffineMap
from ode_runner.regularizers.singular_values import squared_norm

STEEPEST = 1.1  # above the largest slope of x sigmoid(x), 1.0998

Function = Callable[[Tensor], Tensor]  # of vectors (batch, size)


@final
class LipschitzMLP(nn.Module):
    """A function of y, and of a condition, with Lipschitz constant at most `bound` with respect to y.

    Every weight matrix on the path from y is scaled down so that its largest singular value is at most
    bound^(1 / layers). Singular values are exact, not by power iteration, so that the bound always holds and there is
    no state. The activation is LipSwish, x sigmoid(b x) / 1.1, whose slope is at most 1 for every b > 0. Because of the
    bound, inputs of `width` units have a size of about 1 / sqrt(width). So b is initialised as sqrt(width) / 2: with
    1/2, the layers would be almost linear and hardly learn to be more.

    Chen, Behrmann, Duvenaud, Jacobsen. Residual Flows for Invertible Generative Modeling. NeurIPS 2019.
    """

    def __init__(self, size: int, *, given: int, width: int, depth: int, bound: float) -> None:
        super().__init__()
        sizes = [size, *[width] * depth, size]
        self.maps = nn.ModuleList(nn.Linear(inputs, outputs) for inputs, outputs in pairwise(sizes))
        self.from_given = nn.Linear(given, width, bias=False) if given else None
        self.betas = nn.Parameter(torch.full((depth,), math.sqrt(width) / 2).expm1().log())
        self.limit = bound ** (1 / len(self.maps))

    def bounded(self) -> list[AffineMap]:
        """The affine maps with bounded weights."""
        return [AffineMap(self._within(layer.weight), layer.bias) for layer in self.maps]  # type: ignore[arg-type]

    def _within(self, weight: Tensor) -> Tensor:
        return weight * (self.limit / squared_norm(weight).sqrt()).clamp(max=1)

    def value(self, maps: Sequence[AffineMap], x: Tensor, given: Sequence[Tensor]) -> Tensor:
        """The value, (batch, size), with the maps of `bounded`."""
        found, _ = self.linearize(maps, x, given)
        return found

    def linearize(self, maps: Sequence[AffineMap], x: Tensor, given: Sequence[Tensor]) -> tuple[Tensor, Function]:
        """The value, and the function that maps tangents (..., batch, size) of x to those of the value."""
        first, *others = maps
        x = first(x)
        if self.from_given is not None:
            x = x + self.from_given(*given)
        slopes = []
        for affine, beta in zip(others, softplus(self.betas), strict=True):
            gate = torch.sigmoid(beta * x)
            slopes.append((gate + beta * x * gate * (1 - gate)) / STEEPEST)
            x = affine(x * gate / STEEPEST)

        def jvp(v: Tensor) -> Tensor:
            v = linear(v, first.weight)
            for slope, affine in zip(slopes, others, strict=True):
                v = linear(slope * v, affine.weight)
            return v

        return x, jvp
