"""Distances and neighbourhoods of two sets of points, samples and data: for samples that are judged as a set."""

from typing import NamedTuple

import torch
from torch import Tensor

NEIGHBOURS = 5
AT_ONCE = 5000  # points of a set whose distances are looked at together


class Neighbourhoods(NamedTuple):
    """Shares of points that lie in neighbourhoods of those of the other set; see `neighbourhoods`."""

    precision: float
    recall: float
    density: float
    coverage: float


def frechet(samples: Tensor, data: Tensor) -> float:
    """The squared Frechet distance of two normal laws, those of the means and covariances of (points, features).

    |m - n|^2 + tr(S + T - 2 (S T)^(1/2)). It falls with the number of points: compare sets of the same sizes.

    Dowson, Landau. The Frechet Distance between Multivariate Normal Distributions. J. Multivariate Analysis 12, 1982.
    """
    one, other = samples.double(), data.double()
    s, t = torch.cov(one.T), torch.cov(other.T)
    values, vectors = torch.linalg.eigh(s)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    shared = torch.linalg.eigvalsh(root @ t @ root).clamp_min(0).sqrt().sum()
    return float((one.mean(dim=0) - other.mean(dim=0)).square().sum() + s.trace() + t.trace() - 2 * shared)


def neighbourhoods(samples: Tensor, data: Tensor) -> Neighbourhoods:
    """How far two sets (points, features) lie in each other's neighbourhoods.

    The neighbourhood of a point is the ball that reaches to its NEIGHBOURS-th nearest in its own set. `precision` is
    the share of samples in some neighbourhood of the data, `recall` the share of data in some of the samples, `density`
    in how many of the data a sample is, divided by NEIGHBOURS, and `coverage` the share of the data whose neighbourhood
    holds a sample.

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
    """Which of the others is nearest to each of the points (points, *shape), and its distance."""
    flat, theirs = points.flatten(1), others.flatten(1)
    found = [torch.cdist(flat, part).min(dim=1) for part in theirs.split(AT_ONCE)]
    best = torch.stack([part.values for part in found]).argmin(dim=0)
    places = torch.stack([part.indices for part in found])[best, torch.arange(len(flat))] + AT_ONCE * best
    return places, (flat - theirs[places]).norm(dim=1)  # cdist rounds what is near 0


def _radii(points: Tensor) -> Tensor:
    """The distance of each to its NEIGHBOURS-th nearest; it is itself the nearest of all."""
    return _distances(points, points).kthvalue(NEIGHBOURS + 1, dim=1).values


def _distances(one: Tensor, other: Tensor) -> Tensor:
    """In float64 and without the detour over products, so that equal points are at no distance."""
    return torch.cdist(one.double(), other.double(), compute_mode="donot_use_mm_for_euclid_dist")
