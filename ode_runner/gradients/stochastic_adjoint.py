"""The adjoint of a Stratonovich equation, solved backwards in time along the same Brownian path."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ode_runner.fields.counted_field import CountedField
from ode_runner.gradients.continuous import split_adjoint, split_like
from ode_runner.gradients.solve_rule import SolveRule, solve_by_rule
from ode_runner.gradients.vjp import gradients_of
from ode_runner.noise.brownian_path import Increment
from ode_runner.problem import Problem, Solution
from ode_runner.solvers.stochastic import StratonovichRungeKutta
from ode_runner.solvers.stochastic_equation import StochasticEquation
from ode_runner.solvers.tableau import time_tensor
from ode_runner.types import State, Times, Trajectory


def solve_with_stochastic_adjoint(solver: StratonovichRungeKutta, problem: Problem) -> Solution:
    """The solution at `ts`; its derivative comes from the adjoint equation, along the same Brownian path.

    Stratonovich equations obey the ordinary chain rule. So the adjoint of dy = f dt + g dW has the form that it has for
    ordinary equations: da = -a (df/dy) dt - a (dg/dy) dW, and likewise for parameters. It is the adjoint of the
    equation, not of the computed solution, and has the error of the steps.

    Li, Wong, Chen, Duvenaud. Scalable Gradients for Stochastic Differential Equations. AISTATS 2020, Algorithm 2.
    """
    return solve_by_rule(_StochasticAdjointRule(solver), problem.field, problem.y0, problem.ts)


class _StochasticAdjointRule(SolveRule):
    def __init__(self, solver: StratonovichRungeKutta) -> None:
        self.solver = solver

    def solve(self, field: CountedField, y0: State, ts: Times) -> tuple[Solution, Sequence[Tensor]]:
        self.ts = ts
        solution = self.solver.solve(field, y0, ts)
        return solution, [solution.ys]

    def pull_back(
        self, field: CountedField, kept: Sequence[Tensor], parameters: Sequence[Tensor], dys: Tensor, dqs: Tensor
    ) -> tuple[Tensor, Sequence[Tensor]]:
        [ys] = kept
        backward = _BackwardSteps(self.solver, field, parameters, ys, float(self.ts[0]))
        a, c, left = torch.zeros_like(dys[0]), torch.zeros_like(dqs[0]), len(ys) - 1
        g = ys.new_zeros(sum(p.numel() for p in parameters))
        y, steps = ys[-1], self.solver.grid_steps(self.ts)
        for interval in reversed(steps):
            if interval.due:  # the state restarts from its stored value
                y, a, c = ys[left], a + dys[left], c + dqs[left]
                left -= 1
            y, a, g = backward.step(interval.t1, interval.t0, (y, a, g), c)
        field.ledger.tally.accepted += len(steps)
        return a + dys[0], split_like(g, parameters)


class _BackwardSteps:
    """Backward steps of the solver for the flat (y, a, g), where g is the gradient of the parameters."""

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
        """A step from t1 back to t0; `c` is dL/dq of the integrals."""
        dt, noise = t0 - t1, self.field.driving_noise.increment(t1, t0, carried[0])
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
