"""The true field between a distribution in the plane and noise, and the span of a solve along it, from options."""

import math
from typing import Literal, NamedTuple

import torch

from ode_runner.errors import RefusedInput, as_typed
from ode_runner.paths.base import END_TIME, GaussianPath
from ode_runner.paths.heads import LATEST
from ode_runner.paths.named import PathName, path_named
from ode_runner.paths.noise_level import NoiseLevel
from ode_runner.tasks.densities.gaussian_mixture import GaussianMixture
from ode_runner.tasks.densities.plane_distributions import GAUSSIANS, PlaneDistribution


class KnownField(NamedTuple):
    """The field of a distribution, if it is known, and how samples are drawn by it."""

    field: GaussianMixture | None = None
    sampled: tuple[float, float] | None = None  # the span of a solve
    by_rho: bool = False  # whether it is the field of x / alpha as a function of rho
    end_alpha: float = 1.0  # alpha at the end of the path


def known_field(
    distribution: PlaneDistribution,
    path: PathName | None,
    start_time: float | None,
    end_time: float | None,
    *,
    name: str,
    clock: Literal["t", "rho"] | None,
) -> KnownField:
    """The field along a path, and the span of a solve; no field if the noised densities are not known.

    Raises:
        RefusedInput: a path is named, but there is no such field.
    """
    field = true_field(distribution, path)
    if field is None and path is not None:
        raise RefusedInput(
            f"task.path={path} needs a distribution whose noised densities are known, unlike that of "
            f"{as_typed(name)}. Use task.name={' or '.join(GAUSSIANS)}."
        )
    if field is None:
        return KnownField()
    sampled = sampled_span(field.path, start_time, end_time)
    if clock != "rho":
        return KnownField(field, sampled)
    alpha = float(field.path.alpha(torch.tensor(sampled[1], dtype=torch.float64)))
    return KnownField(*by_noise_level(field, sampled), by_rho=True, end_alpha=alpha)


def true_field(distribution: PlaneDistribution, path: PathName | None) -> GaussianMixture | None:
    """The field between distribution and noise, along the named path or the linear one; None if it is not known."""
    if distribution.centres is None or distribution.std is None:
        return None
    return GaussianMixture(path_named(path or "linear"), means=distribution.centres, std=distribution.std)


def by_noise_level(field: GaussianMixture, sampled: tuple[float, float]) -> tuple[GaussianMixture, tuple[float, float]]:
    """The field of x / alpha as a function of rho = sigma / alpha, and the span of a solve.

    Raises:
        RefusedInput: the initial rho would be infinite.
    """
    start, end = (float(rho) for rho in field.path.rho(torch.tensor(sampled, dtype=torch.float64)))
    if not math.isfinite(start):
        raise RefusedInput(
            f"task.clock=rho: sigma / alpha of the path {field.path.name} is infinite at t = {sampled[0]:g}. Use "
            f"task.start_time={LATEST:g}, or task.path=vp."
        )
    return field.along(NoiseLevel(rho_max=start)), (1.0, end / start)


def sampled_span(path: GaussianPath, start: float | None, end: float | None) -> tuple[float, float]:
    """The first and last time of a solve from noise to data.

    Raises:
        RefusedInput: they do not decrease within [0, 1], or the path's velocity is infinite at the end.
    """
    first, last = 1.0 if start is None else start, path.end_time if end is None else end
    if not 0 <= last < first <= 1:
        raise RefusedInput(
            f"task.start_time={first:g} task.end_time={last:g}: samples run from noise, at t = 1, towards data, at "
            "t = 0. Leave them out, or type task.start_time=1 task.end_time=0.001."
        )
    if not torch.isfinite(path.sigma_dot(torch.tensor(last))):
        raise RefusedInput(
            f"task.end_time={last:g}: the velocity of the path {path.name} is infinite there. Use {END_TIME:g}."
        )
    return first, last
