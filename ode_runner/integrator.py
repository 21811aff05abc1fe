"""A solver and a gradient mode, bound: all that a model knows of numerics."""

from dataclasses import dataclass, field
from functools import partial

import torch

from ode_runner.field import AutocastField, CountedField, Ledger, VectorField
from ode_runner.gradients.base import GradientMode
from ode_runner.gradients.times import solve_between
from ode_runner.solvers.base import Solver
from ode_runner.types import State, Times, Trajectory


@dataclass(frozen=True, kw_only=True)
class Integrator:
    """Solves for a model, and enters evaluations and steps in the ledger.

    `field_dtype` is the lower precision in which the field may be evaluated; state and time keep their own.
    """

    solver: Solver
    gradient: GradientMode
    field_dtype: torch.dtype | None = None
    ledger: Ledger = field(default_factory=Ledger)

    def __call__(self, field: VectorField, y0: State, ts: Times) -> Trajectory:
        """States at `ts`, beginning with `y0` itself; differentiable by `ts` too, where that asks for it."""
        if self.field_dtype is not None:
            field = AutocastField.around(field, self.field_dtype)
        with torch.autocast(y0.device.type, enabled=False):
            counted = CountedField.around(field, self.ledger)
            solve = partial(self.gradient.solve, self.solver, counted)
            y0 = y0.to(ts.dtype)
            moving = ts.requires_grad and torch.is_grad_enabled()
            solution = solve_between(solve, counted, y0, ts) if moving else solve(y0, ts)
        self.ledger.tally.accepted += solution.accepted
        self.ledger.tally.rejected += solution.rejected
        if solution.each is not None:
            self.ledger.enter(solution.each)
        return solution.ys
