"""Stability functions of methods, for pictures of their stability regions."""

import torch
from torch import Tensor

from ode_runner.solvers.adams_bashforth import AdamsBashforth
from ode_runner.solvers.base import Solver
from ode_runner.solvers.one_step import RungeKutta


def amplification(solver: Solver, z: Tensor) -> Tensor | None:
    """The amplification factor of a step for y' = lambda y: |R(z)|, or the largest modulus of a characteristic root.

    z = dt lambda is complex128. The result is None for methods that are neither Runge-Kutta nor Adams-Bashforth, and
    for methods that treat parts of a field differently, which would need two numbers z.

    Hairer, Wanner. Solving Ordinary Differential Equations II. Springer 1996, IV.2 and V.1.
    """
    if not solver.of_ordinary_equations:
        return None
    if isinstance(solver, RungeKutta):
        return _of_runge_kutta(solver, z)
    return _of_multistep(solver, z) if isinstance(solver, AdamsBashforth) else None


def _of_runge_kutta(solver: RungeKutta, z: Tensor) -> Tensor:
    """|1 + z b (I - z A)^-1 1|."""
    stages = len(solver.tableau.b)
    rows = [[*row, *[0.0] * (stages - len(row))] for row in solver.tableau.a]
    a, b = (torch.tensor(x, dtype=torch.complex128) for x in (rows, solver.tableau.b))
    ones = torch.ones(stages, dtype=torch.complex128)
    slopes = torch.linalg.solve(torch.eye(stages) - z[..., None, None] * a, ones.expand(*z.shape, stages))
    return (1 + z * (slopes @ b)).abs()


def _of_multistep(solver: AdamsBashforth, z: Tensor) -> Tensor:
    """The largest root of r^k - r^(k-1) - z (w_1 r^(k-1) + ... + w_k), as an eigenvalue of its companion matrix."""
    weights = torch.tensor(solver.backward_weights, dtype=torch.complex128)
    steps = len(weights)
    companion = torch.zeros(*z.shape, steps, steps, dtype=torch.complex128)
    companion[..., 0, :] = z[..., None] * weights
    companion[..., 0, 0] += 1
    companion[..., range(1, steps), range(steps - 1)] = 1
    return torch.linalg.eigvals(companion).abs().amax(dim=-1)
