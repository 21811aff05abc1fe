"""Tau-leaping."""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, final

import torch
from torch import Tensor

from ode_runner.noise.hashed_numbers import draw_categorical
from ode_runner.problem import Solution
from ode_runner.solvers.markov_chains.jumps import JumpSolver
from ode_runner.types import Times


@final
@dataclass(frozen=True, kw_only=True)
class TauLeap(JumpSolver):
    """Rates are constant over a step, in which every position jumps at most once, independently of the others.

    Weak order 1, one evaluation per step. A position jumps to each other state with probability dt rate, an Euler step
    for its distribution. If these sum to more than 1, it jumps for certain, with probabilities proportional to them.

    Gillespie. Approximate accelerated stochastic simulation of chemically reacting systems. J. Chem. Phys. 115, 2001. ·
    Campbell, Benton, De Bortoli, Rainforth, Deligiannidis, Doucet. A Continuous Time Framework for Discrete Denoising
    Models. NeurIPS 2022.
    """

    order: int = field(default=1, init=False)  # weak order

    def follow(self, field: Any, x0: Tensor, ts: Times) -> Solution:
        x, xs, grids = x0, [x0], self.grids(ts)
        for grid in grids:
            for t0, t1 in pairwise(grid):
                x = self._leap(field, t0, t1, x)
            xs.append(x)
        return Solution(ys=torch.stack(xs), accepted=sum(len(grid) - 1 for grid in grids))

    def _leap(self, field: Any, t0: float, t1: float, x: Tensor) -> Tensor:
        rates = self.rates(field, t0, x)
        time = torch.full((), t0, dtype=torch.float64, device=x.device)
        whether, where = (field.driving_noise.uniform(time, which, x.shape[1:]) for which in (0, 1))
        leaves = whether < abs(t1 - t0) * rates.sum(dim=2)
        return torch.where(leaves, draw_categorical(rates, where), x)
