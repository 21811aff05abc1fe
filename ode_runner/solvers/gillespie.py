"""Gillespie's direct method."""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, final

import torch
from torch import Tensor

from ode_runner.counted_field import uncounted
from ode_runner.errors import SolverFailed
from ode_runner.problem import Solution
from ode_runner.solvers.jumps import JumpSolver, chosen, exponential
from ode_runner.transfer import read_times
from ode_runner.types import Times

MOST_JUMPS = 1_000_000  # of one path between two times


@final
@dataclass(frozen=True, kw_only=True)
class Gillespie(JumpSolver):
    """One jump after another, each at a time of its own: exact where rates depend on the state alone.

    Where they depend on the time they are held over each cell of a grid, as they are in its middle: of order 2 in law.
    The evaluations of a cell are one more than the jumps of the path that has most.

    Gillespie. Exact stochastic simulation of coupled chemical reactions. J. Phys. Chem. 81, 1977.
    """

    order: int = field(default=2, init=False)  # in law, where rates depend on the time

    def follow(self, field: Any, x0: Tensor, ts: Times) -> Solution:
        times, x, xs, rounds = read_times(ts), x0, [x0], 0
        cells = [list(pair) for pair in pairwise(times)] if uncounted(field).steady else self.grids(ts)
        for cell in cells:
            for t0, t1 in pairwise(cell):
                x, count = self._across(field, t0, t1, x)
                rounds += count
            xs.append(x)
        return Solution(ys=torch.stack(xs), accepted=rounds)

    def _across(self, field: Any, t0: float, t1: float, x: Tensor) -> tuple[Tensor, int]:
        """The states at t1, and how often rates were asked for."""
        span, passed = abs(t1 - t0), torch.zeros(len(x), dtype=torch.float64, device=x.device)
        for count in range(1, MOST_JUMPS):
            rates = self.rates(field, (t0 + t1) / 2, x).flatten(1)
            when, where = (field.uniform(t0 + passed, which, ()) for which in (0, 1))
            passed = passed + exponential(when, rates.sum(dim=1))
            jumps = passed < span
            if not jumps.any():
                return x, count
            x = torch.where(jumps[:, None], _jumped(x, chosen(rates, where), states=rates.shape[1] // x.shape[1]), x)
        raise SolverFailed(f"Gillespie stopped at t={t0:.6g}: a path makes {MOST_JUMPS:,} jumps before t={t1:.6g}.")


def _jumped(x: Tensor, entry: Tensor, *, states: int) -> Tensor:
    """x (batch, position), each sample with one position in another state: entry = position * states + state."""
    return x.scatter(1, (entry // states)[:, None], (entry % states)[:, None])
