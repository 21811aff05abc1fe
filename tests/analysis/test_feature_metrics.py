"""Frechet distance and neighbourhoods of sets: closed forms, and what they make of copies and of one point."""

import math

import pytest
import torch
from torch import Tensor

from ode_runner.tasks.images.feature_metrics import NEIGHBOURS, frechet, nearest, neighbourhoods


def standardised(count: int, features: int) -> Tensor:
    """Points of mean 0 and covariance 1, to rounding."""
    points = torch.randn(count, features, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    points = points - points.mean(dim=0)
    values, vectors = torch.linalg.eigh(torch.cov(points.T))
    return points @ vectors / values.sqrt()


def test_the_frechet_distance_is_that_of_normal_laws() -> None:
    """Of variances s_i^2 and t_i^2 along the same axes, and means m apart: |m|^2 + sum (s_i - t_i)^2."""
    points = standardised(200, 3)
    one, other = torch.tensor([1.0, 2.0, 0.5]).double(), torch.tensor([3.0, 2.0, 0.0]).double()
    apart = torch.tensor([1.0, -1.0, 2.0]).double()
    expected = float(apart.square().sum() + (one - other).square().sum())
    assert frechet(points * one + apart, points * other) == pytest.approx(expected, rel=1e-7)
    assert frechet(points, points) == pytest.approx(0, abs=1e-6)


def test_covariances_that_do_not_commute_take_the_root_of_their_product() -> None:
    """In the plane tr (S T)^(1/2) = (tr S T + 2 (det S T)^(1/2))^(1/2)."""
    points = standardised(100, 2)
    a, b = torch.tensor([[2.0, 0.0], [1.0, 1.0]]).double(), torch.tensor([[1.0, 0.5], [0.0, 3.0]]).double()
    s, t = a.T @ a, b.T @ b
    root = (torch.trace(s @ t) + 2 * torch.linalg.det(s @ t).sqrt()).sqrt()
    expected = float(torch.trace(s) + torch.trace(t) - 2 * root)
    assert frechet(points @ a, points @ b) == pytest.approx(expected, rel=1e-7)


def test_equal_sets_have_precision_recall_and_coverage_1() -> None:
    points = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    found = neighbourhoods(points, points[torch.randperm(60)])
    assert (found.precision, found.recall, found.coverage) == (1, 1, 1)
    assert found.density == pytest.approx((NEIGHBOURS + 1) / NEIGHBOURS), "each lies in its own ball and in others'"


def test_one_point_has_recall_0_whatever_its_precision() -> None:
    data = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    found = neighbourhoods(torch.zeros(50, 2), data)
    assert (found.precision, found.recall) == (1, 0)
    assert 0 < found.coverage < 0.1


def test_half_of_two_clusters_is_precise_and_recalls_half() -> None:
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(2, 300, 2, generator=generator) + torch.tensor([[[-100.0, 0.0]], [[100.0, 0.0]]])
    samples = left[:150]
    found = neighbourhoods(samples, torch.cat([left[150:], right[150:]]))
    assert found.precision > 0.9
    assert found.recall == pytest.approx(0.5, abs=0.05)
    assert found.coverage == pytest.approx(0.5, abs=0.05)
    far = neighbourhoods(samples + 1000, left)
    assert far == (0, 0, 0, 0)


@pytest.mark.parametrize("at_once", [3, 1000])
def test_a_copy_is_at_distance_0_from_the_nearest(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr("ode_runner.tasks.images.feature_metrics.AT_ONCE", at_once)
    images = torch.randn(10, 1, 3, 3, generator=torch.Generator().manual_seed(0)) + 1000
    places, distances = nearest(images[[7, 2]], images)
    assert places.tolist() == [7, 2]
    assert distances.tolist() == [0, 0]
    moved = images[4].clone()
    moved[0, 0, 0] += 0.25
    _, [distance] = nearest(moved[None], images)
    assert float(distance) == pytest.approx(0.25, rel=1e-3)
    assert math.isfinite(float(distance))
