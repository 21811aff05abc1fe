"""Distributions of points in the plane for density tasks: sampling and entropies.

Definitions are those of FFJORD's `lib/toy_data.py` (rtqichen/ffjord), with every angle drawn uniformly at random.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial

import torch
from torch import Generator, Tensor

from ode_runner.tasks.densities.plane_entropies import NODES, Entropies, NoisyCurves, nodes

MOST_TURNED = 3 * math.pi  # angle at the end of an arm of the spirals
PINWHEEL_ENTROPIES = Entropies(whole=2.3178, within=0.7148)  # by a sum over polar coordinates; a test repeats it
CHECKERBOARD_ENTROPIES = Entropies(whole=math.log(32), within=math.log(32))
Points = tuple[Tensor, Tensor]  # (points, 2), float64, and the component of each point, (points,)
Draw = Callable[[int, Generator], Points]


@dataclass(frozen=True, kw_only=True)
class PlaneDistribution:
    """A distribution of points in the plane; its components have equal weights."""

    draw: Draw
    entropies: Callable[[], Entropies]  # computed once, for sweeps: it takes some hundredths of a second
    components: int = 1
    centres: Tensor | None = None  # (components, 2); None: components have no centres
    std: float | None = None  # of each component, if all are normal distributions around their centres


def gaussians(radius: float, std: float) -> PlaneDistribution:
    """Eight normal distributions with standard deviation `std`, centred at evenly spaced points of a circle."""
    return PlaneDistribution(
        draw=partial(_gaussians, radius, std),
        entropies=partial(_gaussians_entropies, radius, std),
        components=8,
        centres=_centres(radius),
        std=std,
    )


@cache
def _gaussians_entropies(radius: float, std: float) -> Entropies:
    """The entropies of eight equal normal distributions on a circle, by a sum over a grid around one of them."""
    offsets = std * torch.linspace(-10.0, 10.0, 201, dtype=torch.float64)
    apart = torch.cartesian_prod(offsets, offsets)
    squares = (apart[:, None] + _centres(radius)[0] - _centres(radius)).square().sum(dim=-1)
    constant = math.log(2 * math.pi * std**2)
    log_density = torch.logsumexp(-squares / (2 * std**2), dim=1) - math.log(8) - constant
    weights = torch.exp(-apart.square().sum(dim=1) / (2 * std**2) - constant) * (offsets[1] - offsets[0]) ** 2
    return Entropies(whole=-float(weights @ log_density), within=math.log(2 * math.pi * math.e * std**2))


def _centres(radius: float) -> Tensor:
    angles = torch.arange(8, dtype=torch.float64) * math.pi / 4
    return radius * torch.stack([angles.cos(), angles.sin()], dim=1)


def _gaussians(radius: float, std: float, count: int, generator: Generator) -> Points:
    component = torch.randint(8, (count,), generator=generator)
    return _centres(radius)[component] + std * _normal(count, generator), component


def _moons(count: int, generator: Generator) -> Points:
    """scikit-learn's make_moons with noise 0.1, scaled by 2 and shifted by (-1, -0.2)."""
    angle, component = math.pi * _uniform(count, generator), torch.randint(2, (count,), generator=generator)
    points = _on_moons(angle, component) + 0.1 * _normal(count, generator)
    return 2 * points + torch.tensor([-1.0, -0.2], dtype=torch.float64), component


def _on_moons(angle: Tensor, component: Tensor) -> Tensor:
    x = torch.where(component == 1, 1 - angle.cos(), angle.cos())
    y = torch.where(component == 1, 0.5 - angle.sin(), angle.sin())
    return torch.stack([x, y], dim=1)


@cache
def _moons_entropies() -> Entropies:
    places, weights = nodes()
    moons = [_on_moons(math.pi * places, torch.full((NODES,), k)) for k in range(2)]
    return NoisyCurves(2 * torch.stack(moons), weights, std=2 * 0.1).entropies()


def _circles(count: int, generator: Generator) -> Points:
    """scikit-learn's make_circles with factor 0.5 and noise 0.08, scaled by 3."""
    component = torch.randint(2, (count,), generator=generator)
    return 3 * (_on_circles(1 - component.double() / 2, generator) + 0.08 * _normal(count, generator)), component


@cache
def _circles_entropies(radii: Sequence[float], std: float) -> Entropies:
    """The entropies of circles with noise."""
    places, weights = nodes()
    angles = 2 * math.pi * places
    circle = torch.stack([angles.cos(), angles.sin()], dim=1)
    return NoisyCurves(torch.stack([radius * circle for radius in radii]), weights, std).entropies()


def _pinwheel(count: int, generator: Generator) -> Points:
    """Five arms, radius and height from N((1, 0), (0.3, 0.1)), rotated by 2 pi k / 5 + exp(radius) / 4, scaled by 2."""
    arm = torch.randint(5, (count,), generator=generator)
    along, across = _normal(count, generator).T * torch.tensor([[0.3], [0.1]], dtype=torch.float64)
    along = along + 1
    angle = 2 * math.pi * arm / 5 + along.exp() / 4
    cos, sin = angle.cos(), angle.sin()
    return 2 * torch.stack([along * cos + across * sin, across * cos - along * sin], dim=1), arm


def _checkerboard(count: int, generator: Generator) -> Points:
    """Uniform on eight of the sixteen squares of side 2 that fill a square of side 8."""
    x, height = 4 * _uniform(count, generator) - 2, _uniform(count, generator)
    y = height - 2 * torch.randint(2, (count,), generator=generator) + x.floor() % 2
    return 2 * torch.stack([x, y], dim=1), torch.zeros(count, dtype=torch.int64)


def _spirals(count: int, generator: Generator) -> Points:
    """Two arms of one and a half turns, (-cos(n) n + U / 2, sin(n) n + U / 2) / 3 and its negative, noise 0.1."""
    n = MOST_TURNED * _uniform(count, generator).sqrt()
    x = -n.cos() * n + _uniform(count, generator) / 2
    y = n.sin() * n + _uniform(count, generator) / 2
    component = torch.randint(2, (count,), generator=generator)
    sign = 1 - 2 * component[:, None]
    return sign * torch.stack([x, y], dim=1) / 3 + 0.1 * _normal(count, generator), component


@cache
def _spirals_entropies() -> Entropies:
    """n has the density 2 n / (3 pi)^2."""
    places, weights = nodes()
    n, width = MOST_TURNED * places, 1 / 6
    arm = torch.stack([-n.cos() * n, n.sin() * n], dim=1) / 3
    both = torch.stack([arm, -arm - width])  # the corner of the mirrored square
    return NoisyCurves(both, 2 * places * weights, std=0.1, width=width).entropies()


def _swissroll(count: int, generator: Generator) -> Points:
    """The first and third coordinate of scikit-learn's make_swiss_roll with noise 1, divided by 5."""
    roll = _on_swissroll(_uniform(count, generator))
    return (roll + _normal(count, generator)) / 5, torch.zeros(count, dtype=torch.int64)


def _on_swissroll(places: Tensor) -> Tensor:
    angle = 1.5 * math.pi * (1 + 2 * places)
    return angle[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1)


@cache
def _swissroll_entropies() -> Entropies:
    places, weights = nodes()
    return NoisyCurves(_on_swissroll(places)[None] / 5, weights, std=1 / 5).entropies()


def _rings(count: int, generator: Generator) -> Points:
    """Circles of radius 0.75, 1.5, 2.25 and 3, noise 0.08."""
    component = torch.randint(4, (count,), generator=generator)
    return _on_circles(0.75 * (1 + component.double()), generator) + 0.08 * _normal(count, generator), component


def _on_circles(radius: Tensor, generator: Generator) -> Tensor:
    angle = 2 * math.pi * _uniform(len(radius), generator)
    return radius[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1)


def _uniform(count: int, generator: Generator) -> Tensor:
    return torch.rand(count, generator=generator, dtype=torch.float64)


def _normal(count: int, generator: Generator) -> Tensor:
    return torch.randn(count, 2, generator=generator, dtype=torch.float64)


GAUSSIANS = {"8gaussians": (math.sqrt(8), math.sqrt(1 / 8)), "8gaussians_narrow": (math.sqrt(2), 0.1)}  # radius, std
OTHERS = {
    "moons": PlaneDistribution(draw=_moons, entropies=_moons_entropies, components=2),
    "circles": PlaneDistribution(draw=_circles, entropies=partial(_circles_entropies, (3, 1.5), 0.24), components=2),
    "pinwheel": PlaneDistribution(draw=_pinwheel, entropies=lambda: PINWHEEL_ENTROPIES, components=5),
    "checkerboard": PlaneDistribution(draw=_checkerboard, entropies=lambda: CHECKERBOARD_ENTROPIES),
    "2spirals": PlaneDistribution(draw=_spirals, entropies=_spirals_entropies, components=2),
    "swissroll": PlaneDistribution(draw=_swissroll, entropies=_swissroll_entropies),
    "rings": PlaneDistribution(
        draw=_rings, entropies=partial(_circles_entropies, (0.75, 1.5, 2.25, 3), 0.08), components=4
    ),
}
