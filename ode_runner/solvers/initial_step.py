"""The first step size of an adaptive solve."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ode_runner.field import VectorField
from ode_runner.solvers.base import Norm
from ode_runner.solvers.quadrature import JudgedIntegrals
from ode_runner.types import State, Time


@torch.no_grad()
def initial_step(
    field: VectorField,
    t0: Time,
    y0: State,
    f0: State,
    *,
    order: int,
    rtol: float,
    atol: float,
    norm: Norm,
    span: float,
    judged: JudgedIntegrals,
) -> float:
    """A step whose explicit Euler error is about 1 % of the tolerance; costs one evaluation, within `span` of t0.

    Judged integrals are treated like the state. The result is 0 if the state or its slope is not finite. It is not
    differentiated, because a step size is not part of the solution.

    Hairer, Norsett, Wanner. Solving Ordinary Differential Equations I. Springer 1993, II.4, p. 169.
    """
    scale, rates = atol + rtol * y0.abs(), judged.rates(t0, y0, f0)

    def slope_change(dt: float) -> float:
        t1, y1 = t0 + dt, y0 + dt * f0
        f1 = field(t1, y1)
        return max(size_of(f1 - f0, scale, norm), judged.size(judged.rates(t1, y1, f1) - rates))

    d0, d1 = size_of(y0, scale, norm), max(size_of(f0, scale, norm), judged.size(rates))
    return first_step(d0, d1, slope_change, order=order, span=span)


def first_step(d0: float, d1: float, slope_change: Callable[[float], float], *, order: int, span: float) -> float:
    """`initial_step` from norms: `d0` of the state, `d1` of its slope, `slope_change(dt)` of its change over dt."""
    if not math.isfinite(d0 + d1):
        return 0.0
    h0 = trial_step(d0, d1, span)
    return chosen_step(h0, d1, slope_change(math.copysign(h0, span)) / h0, order)


def trial_step(d0: float, d1: float, span: float) -> float:
    """A trial step for the change of the slope; `d0` and `d1` are norms of the state and of its slope."""
    return min(abs(span) / 2, 1e-6 if d0 < 1e-5 or d1 < 1e-5 else 0.01 * d0 / d1)


def chosen_step(h0: float, d1: float, d2: float, order: int) -> float:
    """The first step, given the norm `d2` of the second derivative, estimated by a trial step of `h0`."""
    steepest = max(d1, d2)
    h1 = max(1e-6, 1e-3 * h0) if steepest <= 1e-15 else (0.01 / steepest) ** (1 / order)
    h = min(100 * h0, h1)
    return h if math.isfinite(h) else h0


def noticeable(dt: float, t0: float) -> float:
    """A first step at t0, at least so long that t0 + dt differs from t0 in floating point; 0 stays 0."""
    return max(dt, 4 * math.ulp(t0)) if dt else dt


def size_of(x: Tensor, scale: Tensor | float, norm: Norm) -> float:
    """norm(x / scale), also if squares overflow, as those of 1e20 do in single precision."""
    found = float(norm(x / scale))
    if found != math.inf:
        return found
    largest = x.abs().max()
    return float(norm(x / largest / scale)) * float(largest) if torch.isfinite(largest) else found


def rms(tensor: Tensor) -> Tensor:
    """Root mean square over all elements: the default error norm."""
    return tensor.square().mean().sqrt()
