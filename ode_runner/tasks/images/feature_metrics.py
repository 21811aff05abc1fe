"""Distances and neighbourhood metrics between two sets of points, samples and data."""

from typing import NamedTuple

import torch
from torch import Tensor

NEIGHBOURS = 5
AT_ONCE = 5000  # points of a set per distance matrix


class Neighbourhoods(NamedTuple):
    """Shares of points that lie in neighbourhoods of points of the other set; see `neighbourhoods`."""

    precision: float
    recall: float
    density: float
    coverage: float


def frechet(samples: Tensor, data: Tensor) -> float:
    """The squared Frechet distance between the normal distributions fitted to two sets of points (points, features).

    |m - n|^2 + tr(S + T - 2 (S T)^(1/2)). It decreases with the number of points: compare sets of equal sizes only.

    Dowson, Landau. The Frechet Distance between Multivariate Normal Distributions. J. Multivariate Analysis 12, 1982.
    """
    one, other = samples.double(), data.double()
    s, t = torch.cov(one.T), torch.cov(other.T)
    values, vectors = torch.linalg.eigh(s)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    shared = torch.linalg.eigvalsh(root @ t @ root).clamp_min(0).sqrt().sum()
    return float((one.mean(dim=0) - other.mean(dim=0)).square().sum() + s.trace() + t.trace() - 2 * shared)


def neighbourhoods(samples: Tensor, data: Tensor) -> Neighbourhoods:
    """Precision, recall, density and coverage of two sets (points, features).

    The neighbourhood of a point is the ball up to its NEIGHBOURS-th nearest neighbour in its own set. `precision` is
    the share of samples in any neighbourhood of the data, and `recall` the share of data in any neighbourhood of the
    samples. `density` is the mean number of data neighbourhoods around a sample, divided by NEIGHBOURS. `coverage` is
    the share of data with a sample in their neighbourhood.

    Kynkaanniemi, Karras, Laine, Lehtinen, Aila. Improved Precision and Recall Metric. NeurIPS 2019. · Naeem, Oh, Uh,
    Choi, Yoo. Reliable Fidelity and Diversity Metrics. ICML 2020.
    """
    apart = _distances(data, samples)
    within_data, within_samples = apart <= _radii(data)[:, None], apart <= _radii(samples)
    return Neighbourhoods(
        precision=float(within_data.any(dim=0).double().mean()),
        recall=float(within_samples.any(dim=1).double().mean()),
        density=float(within_data.sum(dim=0).double().mean()) / NEIGHBOURS,
        coverage=float(within_data.any(dim=1).double().mean()),
    )


def nearest(points: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """The index of the nearest of `others` for each of the points (points, *shape), and its distance."""
    flat, theirs = points.flatten(1), others.flatten(1)
    found = [torch.cdist(flat, part).min(dim=1) for part in theirs.split(AT_ONCE)]
    best = torch.stack([part.values for part in found]).argmin(dim=0)
    places = torch.stack([part.indices for part in found])[best, torch.arange(len(flat))] + AT_ONCE * best
    return places, (flat - theirs[places]).norm(dim=1)  # cdist rounds distances near 0


def _radii(points: Tensor) -> Tensor:
    """The distance of each point to its NEIGHBOURS-th nearest neighbour; + 1, since its nearest is itself."""
    return _distances(points, points).kthvalue(NEIGHBOURS + 1, dim=1).values


def _distances(one: Tensor, other: Tensor) -> Tensor:
    """In float64 and without matrix products, so that equal points have distance exactly 0."""
    return torch.cdist(one.double(), other.double(), compute_mode="donot_use_mm_for_euclid_dist")
