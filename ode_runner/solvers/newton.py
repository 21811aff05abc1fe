"""Newton's method for the equations of implicit stages, and their derivative."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ode_runner.field import VectorField
from ode_runner.solvers.linearised import linearise
from ode_runner.types import State, Time

ITERATIONS = 30  # where a square dominates, Newton's method halves the distance many times before it converges


def solve_stage(field: VectorField, t: Time, known: State, weight: float, guess: State) -> State:
    """The y of y = known + weight * f(t, y), to rounding; NaN where the iteration does not settle."""
    return solve_stages(field, [t], known[None], ((weight,),), guess[None])[0]


def solve_stages(
    field: VectorField, ts: Sequence[Time], known: Tensor, weights: Sequence[Sequence[float]], guess: Tensor
) -> Tensor:
    """The y of y[i] = known[i] + sum over j of weights[i][j] * f(ts[j], y[j]), to rounding: (stage, batch, *state).

    NaN where the iteration does not settle. Every iteration is one evaluation a stage, and a linear system for each
    sample; samples must not interact. The iteration itself is not differentiated: one more update is made with the
    Jacobians at the solution held fixed, whose derivative is that of the implicit function theorem. It evaluates each
    stage once, and twice where gradients are recorded.

    Hairer, Wanner. Solving Ordinary Differential Equations II. Springer 1996, IV.8.
    """
    coupling = known.new_tensor(weights)
    y, rounding, before = guess.detach(), 16 * torch.finfo(guess.dtype).eps, math.inf
    for _ in range(ITERATIONS):
        system = linearise(field, ts, y, coupling)
        update = system.solve(_residual(known.detach(), coupling, system.dy, y))
        y = y + update
        size = float((update.abs() / (1 + y.abs())).max())
        if size < rounding or before / 2 < size < rounding**0.5:  # convergence is fast, and ends in noise
            return _differentiable(field, ts, y, known, coupling)
        if math.isnan(size):
            break
        before = size
    return torch.full_like(guess, torch.nan)


def _differentiable(field: VectorField, ts: Sequence[Time], y: Tensor, known: Tensor, coupling: Tensor) -> Tensor:
    """One more update of y, with a graph through `known` and the field's parameters but not through y."""
    system = linearise(field, ts, y, coupling)
    dy = system.dy
    if torch.is_grad_enabled():
        dy = torch.stack([field(t, place) for t, place in zip(ts, y, strict=True)])  # once more, for a graph without y
    return y + system.solve(_residual(known, coupling, dy, y))


def _residual(known: Tensor, coupling: Tensor, dy: Tensor, y: Tensor) -> Tensor:
    return known + torch.tensordot(coupling, dy, dims=1) - y
