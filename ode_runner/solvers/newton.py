"""Newton's method for the equations of an implicit stage, and their derivative."""

import math

import torch
from torch import Tensor

from ode_runner.errors import IncompatibleChoice
from ode_runner.field import VectorField
from ode_runner.types import State, Time

LARGEST = 512  # elements of one sample's state; its Jacobian takes 1 MB in fp32
ITERATIONS = 30  # where a square dominates, Newton's method halves the distance many times before it converges


def solve_stage(field: VectorField, t: Time, known: State, weight: float, guess: State) -> State:
    """The y of y = known + weight * f(t, y), to rounding; NaN where the iteration does not settle.

    Every iteration is one evaluation and the Jacobian by one vector-Jacobian product for each element of a sample's
    state; samples must not interact. The iteration itself is not differentiated: one more update is made with the
    Jacobian at the solution held fixed, whose derivative is that of the implicit function theorem. It evaluates
    once, and twice where gradients are recorded.

    Hairer, Wanner. Solving Ordinary Differential Equations II. Springer 1996, IV.8.
    """
    demand_small(guess)
    y, rounding, before = guess.detach(), 16 * torch.finfo(guess.dtype).eps, math.inf
    for _ in range(ITERATIONS):
        update = _update(field, t, known.detach(), weight, y)
        y = y + update
        size = float((update.abs() / (1 + y.abs())).max())
        if size < rounding or before / 2 < size < rounding**0.5:  # convergence is quadratic, and ends in noise
            return y + _update(field, t, known, weight, y, differentiable=torch.is_grad_enabled())
        if math.isnan(size):
            break
        before = size
    return torch.full_like(guess, torch.nan)


def demand_small(y: State) -> None:
    """Raises IncompatibleChoice where a dense Jacobian for every sample would be too large."""
    size = y[0].numel()
    if size > LARGEST:
        raise IncompatibleChoice(
            f"an implicit solver factorises a Jacobian for every sample, and a state of {size:,} elements is too large "
            f"for that (at most {LARGEST}). Use solver=dopri5, or a smaller network."
        )


def _update(
    field: VectorField, t: Time, known: State, weight: float, y: State, *, differentiable: bool = False
) -> Tensor:
    """Newton's update of y, differentiable with respect to `known` and the field's parameters but not to y."""
    with torch.enable_grad():
        place = y.detach().requires_grad_()
        dy = field(t, place)
        jacobian = _jacobian(dy, place)
    matrix = torch.eye(jacobian.shape[-1], dtype=y.dtype, device=y.device) - weight * jacobian
    dy = field(t, y) if differentiable else dy.detach()  # once more, for a graph without y
    residual = known + weight * dy - y
    solution: Tensor = torch.linalg.solve_ex(matrix, residual.flatten(1).unsqueeze(-1))[0]
    return solution.view_as(y)


def _jacobian(dy: State, y: State) -> Tensor:
    """df/dy of every sample: (batch, element, element)."""
    outputs = dy.flatten(1)
    size = outputs.shape[1]
    if not dy.requires_grad:  # a function of time alone
        return y.new_zeros(len(y), size, size)
    rows = [
        torch.autograd.grad(column.sum(), y, retain_graph=True, allow_unused=True, materialize_grads=True)[0]
        for column in outputs.unbind(1)
    ]
    return torch.stack([row.flatten(1) for row in rows], dim=1)
