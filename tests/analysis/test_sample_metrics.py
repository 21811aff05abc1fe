"""The sliced Wasserstein distance: closed forms, its floor, and what it makes of points that are none."""

import math

import pytest
import torch

from ode_runner.tasks.sample_metrics import directions, distance_from_data, sliced_wasserstein


@pytest.mark.parametrize("shape", [(2,), (1,), (3, 2, 2)])
def test_a_shift_has_the_distance_of_its_mean_projection(shape: tuple[int, ...]) -> None:
    points, shift = torch.randn(200, *shape), torch.full(shape, 0.5)
    lines = directions(math.prod(shape))
    torch.testing.assert_close(lines.norm(dim=0), torch.ones(lines.shape[1], dtype=torch.float64))
    expected = float((shift.flatten().double() @ lines).square().mean().sqrt())
    assert sliced_wasserstein(points + shift, points) == pytest.approx(expected, rel=1e-6)
    if shape == (2,):
        assert expected == pytest.approx(0.5, rel=1e-12)  # |shift| / sqrt(2)


def test_normal_laws_of_two_widths_are_as_far_apart_as_their_widths() -> None:
    generator = torch.Generator().manual_seed(0)
    one, other = torch.randn(2, 8_000, 2, generator=generator)
    assert sliced_wasserstein(3 * one, other) == pytest.approx(2, abs=0.05)
    assert sliced_wasserstein(one[torch.randperm(8_000)], one) == 0


def test_the_floor_is_the_mean_distance_of_other_data() -> None:
    generator = torch.Generator().manual_seed(0)
    data, samples, others = (torch.randn(count, 2, generator=generator) for count in (500, 700, 1300))
    found = distance_from_data(samples, data, others=others)
    pairs = [sliced_wasserstein(others[:500], data), sliced_wasserstein(others[500:1000], data)]
    assert found.floor == pytest.approx(sum(pairs) / 2)
    assert found.value == sliced_wasserstein(samples[:500], data)
    assert 0.3 * found.floor < found.value < 3 * found.floor
    assert distance_from_data(samples[:200], data, others=others[:100]).floor > found.floor


def test_samples_that_are_no_numbers_are_at_no_distance() -> None:
    data = torch.randn(50, 2)
    assert math.isnan(sliced_wasserstein(data.index_fill(0, torch.tensor([3]), math.nan), data))
