"""The grids of times of samplers, and the noise levels of a path at these times."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from ode_runner.errors import RefusedInput
from ode_runner.paths.base import END_TIME, KARRAS, GaussianPath
from ode_runner.paths.heads import LATEST

GridName = Literal["time", "quadratic", "logsnr", "karras"]


@dataclass(frozen=True, kw_only=True)
class Level:
    """A time of the grid and its noise level on the path."""

    t: float
    alpha: float
    sigma: float
    log_snr: float  # log(alpha / sigma); may be infinite
    rho: float  # sigma / alpha; may be infinite

    @classmethod
    def at(cls, path: GaussianPath, t: float) -> "Level":
        """The level at a time, always computed in double precision."""
        time = torch.tensor(t, dtype=torch.float64)
        alpha, sigma = float(path.alpha(time)), float(path.sigma(time))
        return cls(t=t, alpha=alpha, sigma=sigma, log_snr=float(path.log_snr(time)), rho=float(path.rho(time)))


def sampling_grid(path: GaussianPath, start: float, end: float, *, grid: GridName, steps: int) -> list[Level]:
    """The levels of `steps` steps from `start` to `end`, both included.

    `time` is uniform in t, `quadratic` in its square root, `logsnr` in log(alpha / sigma), and `karras` in the seventh
    root of sigma / alpha. With the last two, an end at which alpha or sigma is 0 gets a separate step, between t = 1
    and 0.999 or between 0.001 and 0.

    Raises:
        RefusedInput: the times are too close to tell apart.
    """
    times = _times(path, start, end, grid, steps)
    sign = 1 if end >= start else -1
    if not all(sign * (u - t) > 0 for t, u in pairwise(times)):
        raise RefusedInput(
            f"solver.grid={grid} with {steps} steps from t = {start:g} to {end:g} has times that do not differ or do "
            "not run one way. Use fewer steps, or another solver.grid."
        )
    return [Level.at(path, t) for t in times]


def _times(path: GaussianPath, start: float, end: float, grid: GridName, steps: int) -> list[float]:
    if grid == "time":
        return _uniform(lambda t: t, lambda t: t, start, end, steps)
    if grid == "quadratic":
        return _uniform(torch.sqrt, torch.square, start, end, steps)
    begin, finish = _nearest_finite(path, start), _nearest_finite(path, end)
    before, behind = [start] if begin != start else [], [end] if finish != end else []
    inner = steps - len(before) - len(behind)
    if inner < 1:
        return _times(path, start, end, "time", steps)
    if grid == "logsnr":
        return [*before, *_uniform(path.log_snr, path.time_of_log_snr, begin, finish, inner), *behind]
    root = 1 / KARRAS
    times = _uniform(lambda t: path.rho(t) ** root, lambda s: path.time_of_rho(s**KARRAS), begin, finish, inner)
    return [*before, *times, *behind]


def _nearest_finite(path: GaussianPath, t: float) -> float:
    """The time itself, or the nearest one at which the grid's scale is finite."""
    level = Level.at(path, t)
    if math.isfinite(level.log_snr):
        return t
    return LATEST if level.alpha == 0 else END_TIME


def _uniform(
    scale: Callable[[Tensor], Tensor], inverse: Callable[[Tensor], Tensor], start: float, end: float, steps: int
) -> list[float]:
    """Times that are uniform on a scale, with the ends exactly as given."""
    ends = scale(torch.tensor([start, end], dtype=torch.float64))
    inner = ends[0] + (ends[1] - ends[0]) * torch.arange(1, steps, dtype=torch.float64) / steps
    return [start, *inverse(inner).tolist(), end]
