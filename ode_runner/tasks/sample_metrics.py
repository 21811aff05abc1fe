"""Distances between a model's samples and the data, for tasks whose models draw samples."""

import math
from statistics import fmean

import torch
from torch import Tensor

from ode_runner.tasks.set_metrics import SetMetric

DIRECTIONS = 128
PAIRS = 5  # of real sets; the floor is the mean distance, since that of one pair varies by a third


def sliced_wasserstein(samples: Tensor, data: Tensor) -> float:
    """The sliced Wasserstein distance of order 2 between two equally large sets, (points, *shape).

    It is the root of the mean, over fixed directions, of the squared distances between the sorted projections, and NaN
    if a value is NaN. In the plane the directions are evenly spaced; in other dimensions they are random, with a fixed
    seed.

    Bonneel, Rabin, Peyre, Pfister. Sliced and Radon Wasserstein barycenters of measures. J. Math. Imaging Vision 51,
    2015.
    """
    one, other = (x.flatten(1).to("cpu", torch.float64) for x in (samples, data))
    lines = directions(one.shape[1])
    return float(((one @ lines).sort(dim=0)[0] - (other @ lines).sort(dim=0)[0]).square().mean().sqrt())


def directions(dimensions: int) -> Tensor:
    """Unit vectors (dimensions, DIRECTIONS). In the plane they cover half a turn: opposite ones are equivalent."""
    if dimensions == 2:
        angles = math.pi * torch.arange(DIRECTIONS, dtype=torch.float64) / DIRECTIONS
        return torch.stack([angles.cos(), angles.sin()])
    drawn = torch.randn(dimensions, DIRECTIONS, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return drawn / drawn.norm(dim=0)


def spread(data: Tensor) -> float:
    """The sliced Wasserstein distance between points (points, *shape) and the same number of copies of their mean."""
    points = data.flatten(1).to("cpu", torch.float64)
    return float((points @ directions(points.shape[1])).var(dim=0, correction=0).mean().sqrt())


def distance_from_data(samples: Tensor, data: Tensor, *, others: Tensor) -> SetMetric:
    """The sliced Wasserstein distance between samples and an equal number of data points, with its floor.

    Args:
        others: more data, split into up to PAIRS sets of this size; the floor is the mean of their distances to the
            data.
    """
    count = min(len(samples), len(data), len(others))
    parts = others[: count * min(PAIRS, len(others) // count)].split(count)
    floor = fmean(sliced_wasserstein(part, data[:count]) for part in parts)
    return SetMetric(sliced_wasserstein(samples[:count], data[:count]), floor)
