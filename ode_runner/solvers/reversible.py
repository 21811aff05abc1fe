"""Fixed-step solvers whose every step can be undone."""

import abc
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from ode_runner.field import VectorField
from ode_runner.problem import Solution
from ode_runner.solvers import quadrature
from ode_runner.solvers.base import FixedStepSolver
from ode_runner.solvers.packed_field import solve_packed
from ode_runner.transfer import read_times
from ode_runner.types import State, Times

Carried = tuple[Tensor, ...]  # the state, and the companions without which a step could not be undone


@dataclass(frozen=True, kw_only=True)
class ReversibleSolver(FixedStepSolver):
    """Algebraically reversible: `reverse_step` computes what `reversible_step` was given, whatever the step size.

    That is a property of the formulas and needs no Newton iteration. It is not time symmetry of the field: a field
    that forgets the past amplifies rounding in the backward pass as it would any error.
    """

    kind: ClassVar[str] = "of fixed step and reversible"
    packs: ClassVar[bool] = True  # integrals are rows behind the state; False: gains of a stride

    @abc.abstractmethod
    def begin(self, field: VectorField, t0: float, y0: State) -> Carried:
        """The carried values before the first step."""

    @abc.abstractmethod
    def reversible_step(self, field: VectorField, t0: float, t1: float, carried: Carried) -> Carried:
        """The carried values at t1, from those at t0."""

    @abc.abstractmethod
    def reverse_step(self, field: VectorField, t0: float, t1: float, carried: Carried) -> Carried:
        """The carried values at t0, from those at t1."""

    @staticmethod
    def strides(grid: list[float]) -> list[tuple[float, float]]:
        """The steps along a grid. One over no time is none: it would change the companions, and all that follows."""
        return [(t0, t1) for t0, t1 in pairwise(grid) if t0 != t1]

    def stride(self, field: VectorField, t0: float, t1: float, carried: Carried) -> tuple[Carried, Tensor | None]:
        """`reversible_step`, and what integrals gain by it: None where they are rows of the state, or none."""
        return self.reversible_step(field, t0, t1, carried), None

    def check_integrals(self) -> None:
        """They are rows behind the state, or gains of a stride."""

    def solve(self, field: VectorField, y0: State, ts: Times) -> Solution:
        return solve_packed(lambda *where: self.solve_noting_steps(*where)[0], field, y0, ts)

    def solve_noting_steps(self, field: VectorField, y0: State, ts: Times) -> tuple[Solution, Carried]:
        """The solution, and what is carried at its end."""
        ys, steps, q = [y0], 0, quadrature.begin(field, y0)
        qs = [q]
        grids = self.grids(ts)
        carried: Carried = self.begin(field, read_times(ts)[0], y0) if grids else (y0,)
        for grid in grids:
            for t0, t1 in self.strides(grid):
                carried, gain = self.stride(field, t0, t1, carried)
                q = q if gain is None else q + gain
                steps += 1
            ys.append(carried[0])
            qs.append(q)
        integrals = quadrature.named(field, torch.stack(qs))
        return Solution(ys=torch.stack(ys), integrals=integrals, accepted=steps), carried
