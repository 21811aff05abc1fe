"""Gradients with respect to the times of a solve, in any gradient mode."""

from collections.abc import Callable
from dataclasses import replace

import torch

from ode_runner.problem import Problem, Solution
from ode_runner.solvers.first_order import differentiable_once

OF_TIMES = (
    "a second derivative of a solve whose times have a gradient was asked for (create_graph=True), and there is none. "
    "Use ts.detach() with gradient=backprop."
)


def with_time_gradients(solve: Callable[[Problem], Solution], problem: Problem) -> Solution:
    """`solve(problem)`, whose solution is also differentiable with respect to `ts`, if they require a gradient.

    For an output time, dy(t)/dt = f(t, y). For the first time, dL/dt0 = -a(t0) f(t0, y0), where a = dL/dy. The
    derivative of an integral from t0 to t is its integrand at t, minus that at t0. These are the derivatives of the
    flow; those of the numerical solution differ by its error. This takes one evaluation per time.

    Chen, Rubanova, Bettencourt, Duvenaud. Neural Ordinary Differential Equations. NeurIPS 2018, Algorithm 2.
    """
    field, y0, ts = problem.field, problem.y0, problem.ts
    if not (ts.requires_grad and torch.is_grad_enabled()):
        return solve(problem)
    fixed = ts.detach()
    shifts = ts - fixed  # zero, with a gradient
    with torch.no_grad():
        f0 = field(fixed[0].to(y0.dtype), y0)
    solution = solve(replace(problem, y0=y0 - shifts[0] * f0, ts=fixed))
    with torch.no_grad():
        slopes = [field(t.to(y.dtype), y) for t, y in zip(fixed[1:], solution.ys[1:], strict=True)]
        places = zip(fixed, solution.ys, [f0, *slopes], strict=True) if field.names else ()
        rates = [field.rates(t.to(y.dtype), y, dy) for t, y, dy in places]
    moved = [y + shift * slope for y, shift, slope in zip(solution.ys[1:], shifts[1:], slopes, strict=True)]
    integrals = {}
    for i, name in enumerate(field.names):
        rate = torch.stack(rates)[..., i]
        moved_q = solution.integrals[name] + shifts[:, None] * rate - shifts[0] * rate[0]
        integrals[name] = differentiable_once(moved_q, OF_TIMES)
    return replace(solution, ys=differentiable_once(torch.stack([y0, *moved]), OF_TIMES), integrals=integrals)
