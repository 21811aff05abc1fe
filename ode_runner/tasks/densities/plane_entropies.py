"""Entropies of distributions in the plane whose components are curves with normal noise, by quadrature."""

import math
from typing import NamedTuple

import numpy
import torch
from torch import Tensor

NODES = 400  # of Gauss-Legendre quadrature along a curve: close together beside the noise
CELLS = 3  # of the grid in the plane per standard deviation: sums of smooth densities are then exact to 1e-9
BEYOND = 8.0  # standard deviations around the curves that the grid covers


class Entropies(NamedTuple):
    """Differential entropies of a mixture of components with equal weights, in nats."""

    whole: float  # of the mixture
    within: float  # the mean over the components


class NoisyCurves(NamedTuple):
    """Points of curves, with normal noise and perhaps an offset that is uniform in a square."""

    points: Tensor  # (components, nodes, 2), float64
    weights: Tensor  # (nodes,), with sum 1
    std: float
    width: float = 0.0  # of the square; a point of the curve is its lower left corner

    def entropies(self) -> Entropies:
        """The entropies of the mixture of all curves and of the single ones."""
        within = [_entropy(points, self.weights, self.std, self.width) for points in self.points]
        weights = self.weights.repeat(len(within)) / len(within)
        whole = _entropy(self.points.flatten(0, 1), weights, self.std, self.width)
        return Entropies(whole=whole, within=sum(within) / len(within))


def nodes() -> tuple[Tensor, Tensor]:
    """Nodes in (0, 1) and weights of Gauss-Legendre quadrature."""
    places, weights = map(torch.from_numpy, numpy.polynomial.legendre.leggauss(NODES))
    return (places + 1) / 2, weights / 2


def _entropy(points: Tensor, weights: Tensor, std: float, width: float) -> float:
    """-integral p log p over a grid; the density p is a sum over `points`, and each summand a product over x and y."""
    along_x, along_y = (_density(_grid(c, std, width), c, std, width) for c in points.T)
    density = (along_x * weights) @ along_y.T
    return -float(torch.special.xlogy(density, density).sum()) * (std / CELLS) ** 2


def _grid(centres: Tensor, std: float, width: float) -> Tensor:
    low, high = float(centres.min()) - BEYOND * std, float(centres.max()) + width + BEYOND * std
    return torch.arange(low, high, std / CELLS, dtype=centres.dtype)


def _density(x: Tensor, centres: Tensor, std: float, width: float) -> Tensor:
    """The density at `x` of a normal variable around each centre, (x, centres), plus a uniform one up to `width`."""
    z = (x[:, None] - centres) / std
    if width:
        return (torch.special.ndtr(z) - torch.special.ndtr(z - width / std)) / width
    return torch.exp(-z.square() / 2) / (std * math.sqrt(2 * math.pi))
