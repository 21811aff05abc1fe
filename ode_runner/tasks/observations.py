"""Solutions observed at points in time: reference solutions, noise, and samples with separate observation times."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor
from torch.nn import Module

from ode_runner.errors import RefusedInput
from ode_runner.field import VectorField
from ode_runner.fields.structured_field import KnownEquation
from ode_runner.types import State, Times, Trajectory

MOST_EVALUATIONS = 100_000  # of a true field per solution: some seconds; the built-in tasks take a few thousand
MOST_KEPT = 64  # solutions in the cache, about 20 kB each; a task has six

_kept: dict[tuple[object, ...], Trajectory] = {}


@dataclass(frozen=True)
class Observations:
    """Several solutions, as they were observed."""

    start: Tensor  # (samples, state), the true initial states
    times: Tensor  # (samples, points), each row increasing from 0
    values: Tensor  # (samples, points, state), with noise

    def to(self, device: torch.device) -> "Observations":
        dtype = torch.float32 if device.type == "mps" else torch.float64  # mps has no float64
        return Observations(*(x.to(device, dtype) for x in (self.start, self.times, self.values)))


def draw_times(samples: int, points: int, horizon: float, generator: torch.Generator | None) -> Tensor:
    """Times (samples, points) from 0 to `horizon`: evenly spaced; with a generator, random after the first."""
    if generator is None:
        return torch.linspace(0, horizon, points, dtype=torch.float64).repeat(samples, 1)
    later = torch.rand(samples, points - 1, generator=generator, dtype=torch.float64).sort(dim=1).values
    return torch.cat([later.new_zeros(samples, 1), horizon * later], dim=1)


def observe(
    field: VectorField, start: Tensor, times: Tensor, *, noise: float, generator: torch.Generator
) -> Observations:
    """Solutions from `start` (samples, state) at `times`, with Gaussian noise of standard deviation `noise`."""
    ts, places = times.unique(return_inverse=True)
    values = reference_solution(field, start, ts)[places, torch.arange(len(start))[:, None]]
    return Observations(start, times, values + noise * torch.randn(values.shape, generator=generator).to(values))


def reference_solution(field: VectorField, y0: State, ts: Times, *, stiff: bool = False) -> Trajectory:
    """States from `y0` at increasing `ts`, to about 1e-10 in float64; uses an implicit method if the field is stiff.

    Solutions of a known equation are cached, since jobs of a sweep with the same seed have the same data.

    Hairer, Norsett, Wanner. Solving Ordinary Differential Equations I. Springer 1993, II.5 (DOP853, by SciPy). ·
    Hairer, Wanner. Solving Ordinary Differential Equations II. Springer 1996, IV.8 (Radau, by SciPy).

    Raises:
        RefusedInput: a true solution does not reach the last time.
    """
    known = _coefficients(field)
    if known is None:
        return _solved(field, y0, ts, stiff=stiff)
    key = (*known, y0.shape, y0.numpy().tobytes(), ts.numpy().tobytes(), stiff)
    if key not in _kept:
        _kept[key] = _solved(field, y0, ts, stiff=stiff)
        if len(_kept) > MOST_KEPT:
            del _kept[next(iter(_kept))]
    return _kept[key].clone()


def _coefficients(field: VectorField) -> tuple[object, ...] | None:
    """Everything that the values of a known equation depend on; None for a field that may depend on anything else."""
    if not isinstance(field, KnownEquation) or vars(field).keys() - vars(Module()).keys() != set(field.numbers):
        return None
    values = [getattr(field, name) for name in field.numbers]
    return (type(field), type(field).forward, *values) if all(isinstance(one, float | int) for one in values) else None


def _solved(field: VectorField, y0: State, ts: Times, *, stiff: bool) -> Trajectory:
    left = itertools.count(MOST_EVALUATIONS, -1)

    def derivative(t: float, flat: np.ndarray) -> np.ndarray:
        if next(left) <= 0:
            raise RefusedInput(
                f"the true solution takes more than {MOST_EVALUATIONS:,} evaluations to reach t={span[1]:g}. "
                "Choose milder parameters of the task, or another task.horizon."
            )
        with torch.no_grad():
            return field(torch.tensor(t, dtype=torch.float64), torch.from_numpy(flat).view(y0.shape)).flatten().numpy()

    span = (float(ts[0]), float(ts[-1]))
    with np.errstate(all="ignore"):  # a failure is reported below
        method, rtol, atol = ("Radau", 1e-10, 1e-14) if stiff else ("DOP853", 1e-12, 1e-12)
        found = solve_ivp(
            derivative, span, y0.flatten().numpy(), method=method, rtol=rtol, atol=atol, t_eval=ts.numpy()
        )
    if not found.success or not np.isfinite(found.y).all():
        raise RefusedInput(
            f"the true solution does not reach t={span[1]:g} from every initial state, the first of which is "
            f"{y0[0].tolist()}. Choose another task.box, task.y0 or task.horizon."
        )
    return torch.from_numpy(found.y.T.copy()).view(-1, *y0.shape)


def on_the_union(times: Tensor, values: Tensor, known: Tensor) -> tuple[Times, Tensor, Tensor]:
    """Puts samples with separate observation times on one grid: the union of all times and 0.

    `times` is (batch, points), `values` (batch, points, *value), and `known` (batch, points), False for padding.
    Returns the grid, the values on it (time, batch, *value), zero where unknown, and a mask of known values (time,
    batch).
    """
    ts = torch.cat([times.new_zeros(1), times[known]]).unique()  # sorted
    samples = torch.arange(len(times), device=times.device)[:, None].expand_as(times)
    places = torch.searchsorted(ts, times.contiguous())
    on_union = values.new_zeros(len(ts), len(times), *values.shape[2:])
    mask = torch.zeros(len(ts), len(times), dtype=torch.bool, device=times.device)
    on_union[places[known], samples[known]] = values[known]
    mask[places[known], samples[known]] = True
    return ts, on_union, mask


def with_roots(means: Mapping[str, float]) -> dict[str, float]:
    """Replaces means of squares (`mse…`) by their roots (`rmse…`); other means stay as they are."""
    squares = {name: value for name, value in means.items() if name.startswith("mse")}
    roots = {f"r{name}": math.sqrt(value) for name, value in squares.items()}
    return roots | {name: value for name, value in means.items() if name not in squares}
