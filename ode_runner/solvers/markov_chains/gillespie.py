"""Gillespie's direct method."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, final

import torch
from torch import Tensor

from ode_runner.devices.transfer import read_times
from ode_runner.errors import SolverFailed
from ode_runner.field import VectorField
from ode_runner.fields.counted_field import uncounted
from ode_runner.fields.structured_field import JumpField
from ode_runner.noise.hashed_numbers import draw_categorical
from ode_runner.problem import Solution
from ode_runner.solvers.markov_chains.jumps import JumpSolver, exponential
from ode_runner.types import Times

MOST_JUMPS = 1_000_000  # jumps of one path between two times


@final
@dataclass(frozen=True, kw_only=True)
class Gillespie(JumpSolver):
    """Simulates every jump at its exact time. This is exact if the rates are steady up to a common `pace`.

    Other time-dependent rates are constant over each cell of a grid, as in its middle: weak order 2. A cell takes one
    evaluation more than the largest number of jumps of a path; it takes none if all paths are in absorbing states.

    Gillespie. Exact stochastic simulation of coupled chemical reactions. J. Phys. Chem. 81, 1977. · Zheng, Chen, Mao,
    Liu, Zhu, Zhang. Masked Diffusion Models are Secretly Time-Agnostic Masked Models and Exploit Inaccurate Categorical
    Sampling. ICLR 2025, for the same of masked tokens.
    """

    order: int = field(default=2, init=False)  # weak order, if rates depend on time

    def unused_options_for(self, field: VectorField | None) -> Mapping[str, str]:
        steady = isinstance(field, JumpField) and field.steady
        return dict.fromkeys(("num_steps", "step_size"), "rates are steady, and jumps exact") if steady else {}

    def follow(self, field: Any, x0: Tensor, ts: Times) -> Solution:
        times, xs, rounds = read_times(ts), [x0], 0
        if _chain(field).steady and len(times) > 1:
            later, rounds = self._across(field, times[0], times[1:], x0)
            return Solution(ys=torch.stack([x0, *later]), accepted=rounds)
        for grid in self.grids(ts):
            x = xs[-1]
            for t0, t1 in pairwise(grid):
                [x], count = self._across(field, t0, [t1], x)
                rounds += count
            xs.append(x)
        return Solution(ys=torch.stack(xs), accepted=rounds)

    def _across(self, field: Any, t0: float, ends: Sequence[float], x: Tensor) -> tuple[list[Tensor], int]:
        """The states at each of the ends, with rates frozen at one time, and the number of evaluations."""
        at = t0 if _chain(field).steady else (t0 + ends[-1]) / 2
        pace, spans = _pace(field, at), [_elapsed(field, t0, end) for end in ends]
        states, passed = [x] * len(ends), torch.zeros(len(x), dtype=torch.float64, device=x.device)
        for count in range(MOST_JUMPS):
            if bool(_chain(field).settled(x).all()):
                return states, count
            rates = self.rates(field, at, x).flatten(1) / pace
            when, where = (field.driving_noise.uniform(t0 + passed, which, ()) for which in (0, 1))
            passed = passed + exponential(when, rates.sum(dim=1))
            if not (passed < spans[-1]).any():
                return states, count + 1
            after = _jumped(x, draw_categorical(rates, where), states=rates.shape[1] // x.shape[1])
            states = [
                torch.where((passed < span)[:, None], after, state) for span, state in zip(spans, states, strict=True)
            ]
            x = states[-1]
        raise SolverFailed(
            f"{self.shown_name} stopped at t={t0:.6g}: a path makes {MOST_JUMPS:,} jumps before t={ends[-1]:.6g}."
        )


def _chain(field: Any) -> JumpField:
    chain = uncounted(field)
    assert isinstance(chain, JumpField)
    return chain


def _pace(field: Any, t: float) -> float:
    chain = _chain(field)
    return float(chain.pace(torch.tensor(t, dtype=torch.float64))) if chain.steady else 1.0


def _elapsed(field: Any, t0: float, t1: float) -> float:
    """The elapsed time of the chain between two times; infinite if all jumps must happen before the second."""
    chain = _chain(field)
    if not chain.steady:
        return abs(t1 - t0)
    return float(chain.elapsed(*torch.tensor([t0, t1], dtype=torch.float64)))


def _jumped(x: Tensor, entry: Tensor, *, states: int) -> Tensor:
    """x (batch, position) after one jump per sample, given by entry = position * states + state."""
    return x.scatter(1, (entry // states)[:, None], (entry % states)[:, None])
