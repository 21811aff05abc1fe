"""The adjoint of a Stratonovich equation, solved backwards in time along the path of the way there."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ode_runner.counted_field import CountedField
from ode_runner.gradients.continuous import split_adjoint, split_like
from ode_runner.gradients.pulled_back import gradients_of
from ode_runner.noise import Increment
from ode_runner.problem import Problem, Solution
from ode_runner.solvers.first_order import OF_A_SOLVE, first_order
from ode_runner.solvers.stochastic import StratonovichRungeKutta
from ode_runner.solvers.stochastic_equation import StochasticEquation
from ode_runner.solvers.tableau import time_tensor
from ode_runner.types import State, Times, Trajectory


def solve_with_stochastic_adjoint(solver: StratonovichRungeKutta, problem: Problem) -> Solution:
    """Values at `ts`; their derivative comes from the adjoint equation, along the same Brownian path.

    Ordinary rules of calculus hold for Stratonovich's equations, so that the adjoint of dy = f dt + g dW is what it is
    of ordinary ones: da = -a (df/dy) dt - a (dg/dy) dW, and likewise for parameters. It is that of the equation, not of
    the computed solution: as far off as the steps are.

    Li, Wong, Chen, Duvenaud. Scalable Gradients for Stochastic Differential Equations. AISTATS 2020, Algorithm 2.
    """
    taken: list[Solution] = []  # autograd carries tensors only; the statistics come out this way
    field, y0, ts = problem.field, problem.y0, problem.ts
    ys, qs = _AdjointSolve.apply(solver, field, taken, y0, ts, *field.inputs())
    return replace(taken[0], ys=ys, integrals=field.named(qs))


class _AdjointSolve(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        solver: StratonovichRungeKutta,
        field: CountedField,
        taken: list[Solution],
        y0: State,
        ts: Times,
        *inputs: Tensor,
    ) -> tuple[Trajectory, Tensor]:
        solution = solver.solve(field, y0.detach(), ts)
        taken.append(solution)
        ctx.solver, ctx.field, ctx.ts = solver, field, ts
        ctx.inputs = (y0, *inputs)
        ctx.save_for_backward(solution.ys, *field.leaves())
        return solution.ys, field.stacked(solution.integrals, solution.ys)

    @staticmethod
    @first_order(OF_A_SOLVE)
    def backward(ctx: Any, dys: Tensor, dqs: Tensor) -> tuple[Tensor | None, ...]:
        ys, *parameters = ctx.saved_tensors
        way_back = _WayBack(ctx.solver, ctx.field, parameters, ys, float(ctx.ts[0]))
        a, c, left = dys[-1], torch.zeros_like(dqs[0]), len(ys) - 1
        g = ys.new_zeros(sum(p.numel() for p in parameters))
        y = ys[-1]
        for place in reversed(ctx.solver.places(ctx.ts)):
            if place.due:  # the state restarts from its stored value
                y, c = ys[left], c + dqs[left]
                a, left = a if left == len(ys) - 1 else a + dys[left], left - 1
            y, a, g = way_back.step(place.t1, place.t0, (y, a, g), c)
        ctx.field.ledger.tally.accepted += len(ctx.solver.places(ctx.ts))
        return None, None, None, a + dys[0], None, *split_like(g, parameters)


class _WayBack:
    """Steps of the solver's own along the flat (y, a, g), g being the gradient of the parameters."""

    def __init__(
        self,
        solver: StratonovichRungeKutta,
        field: CountedField,
        parameters: Sequence[Tensor],
        ys: Trajectory,
        t0: float,
    ) -> None:
        self.solver, self.field, self.parameters, self.shape = solver, field, parameters, ys.shape[1:]
        self.equation: StochasticEquation = solver.equation(field, t0, ys[0])

    def step(self, t1: float, t0: float, carried: tuple[State, State, Tensor], c: Tensor) -> tuple[Tensor, ...]:
        """From t1 back to t0; `c` weighs what integrals gain on the way."""
        dt, noise = t0 - t1, self.field.increment(t1, t0, carried[0])
        flat = torch.cat([part.reshape(-1) for part in carried])

        def rise(t: float, flat: Tensor) -> Tensor:
            return self._rise(t, flat, dt, noise, c)

        moved = self.solver.advance(rise, t1, dt, flat, rise(t1, flat))
        return split_adjoint(moved, self.shape)

    def _rise(self, t: float, flat: Tensor, dt: float, noise: Increment, c: Tensor) -> Tensor:
        y, a, _ = split_adjoint(flat, self.shape)
        with torch.enable_grad():
            y = y.detach().requires_grad_()
            f, g = self.equation.both(t, y)
            gained = self.equation.moved(g, noise.w) + dt * f
            outputs, cotangents = [gained], [-a]
            if self.field.names:
                rates = self.field.rates(time_tensor(t, y), y, f)
                outputs, cotangents = [*outputs, dt * rates], [*cotangents, -c]
            slopes = gradients_of(outputs, [y, *self.parameters], cotangents)
        return torch.cat([gained.detach().reshape(-1), *(part.reshape(-1) for part in slopes)])
