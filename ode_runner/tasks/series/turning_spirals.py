"""Spirals in the plane that turn one way or the other, observed at a few points in time."""

import math
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ode_runner.batch import Split
from ode_runner.controls.series import Series
from ode_runner.errors import RefusedInput
from ode_runner.tasks.sizes import check_counts

TURNS = 2
MOST_VALUES = 100_000_000  # points of all spirals of a split: more would take all memory


class Spirals(NamedTuple):
    """The spirals of one split."""

    series: Series  # of x and y
    mirrored: Tensor  # (spirals,), bool


def draw_spirals(
    count: int, *, points: int, observed: int, noise: float, missing: float, generator: torch.Generator
) -> Spirals:
    """Spirals (cos, sin)(phi + t) / (1 + t/2) with random phase phi, of which a random half is mirrored.

    t has `points` evenly spaced values from 0 to 4 pi; each spiral is observed at `observed` of them, chosen at random.
    Gaussian noise of standard deviation `noise` is added to every coordinate, and a share `missing` of the coordinates
    is NaN. (The spirals of torchcde's time_series_classification.py.)
    """
    t = torch.linspace(0, TURNS * math.tau, points)
    angle = math.tau * torch.rand(count, 1, generator=generator) + t
    mirrored = torch.randperm(count, generator=generator) >= count // 2
    x = torch.where(mirrored[:, None], -angle.cos(), angle.cos())
    values = torch.stack([x, angle.sin()], dim=-1) / (1 + t / 2)[:, None]
    values = values + noise * torch.randn(values.shape, generator=generator)
    places = torch.rand(count, points, generator=generator).argsort(dim=1)[:, :observed].sort(dim=1).values
    seen = values.gather(1, places[..., None].expand(-1, -1, 2))
    if missing:
        seen = seen.masked_fill(torch.rand(seen.shape, generator=generator) < missing, torch.nan)
    return Spirals(Series.complete(t[places], seen), mirrored)


def draw_splits(
    sizes: dict[Split, int],
    *,
    points: int,
    observed: int,
    noise: float,
    missing: float = 0.0,
    generator: torch.Generator,
) -> dict[Split, Spirals]:
    """The spirals of each split, in the order of `sizes`.

    Raises:
        RefusedInput: `points` is less than 2 or too many for this number of spirals, or `observed` is less than 2 or
            greater than `points`.
    """
    check_counts(2, MOST_VALUES // max(sizes.values()), points=points)
    if not 2 <= observed <= points:
        raise RefusedInput(f"task.observed must be from 2 to task.points={points}, not {observed}.")
    draw = partial(draw_spirals, points=points, observed=observed, noise=noise, missing=missing, generator=generator)
    return {split: draw(size) for split, size in sizes.items()}
