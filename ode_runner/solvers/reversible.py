"""Fixed-step solvers whose every step can be undone."""

import abc
import warnings
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from ode_runner.devices.transfer import read_times
from ode_runner.field import VectorField
from ode_runner.problem import Solution
from ode_runner.solvers import quadrature
from ode_runner.solvers.base import FixedStepSolver
from ode_runner.solvers.packed_field import solve_packed
from ode_runner.types import State, Times, Trajectory

Carried = tuple[Tensor, ...]  # the state, and the companions without which a step could not be undone
PARTED = 0.5  # distance in sizes of the state; large steps, or noise, alone take the two states a fifth of it apart


@dataclass(frozen=True, kw_only=True)
class ReversibleSolver(FixedStepSolver):
    """Algebraically reversible: `reverse_step` computes what `reversible_step` was given, whatever the step size.

    That is a property of the formulas and needs no Newton iteration. It is not time symmetry of the field: a field
    that forgets the past amplifies rounding in the backward pass as it would any error.
    """

    kind: ClassVar[str] = "of fixed step and reversible"
    packs: ClassVar[bool] = True  # integrals are rows behind the state; False: gains of a stride
    instead: ClassVar[str] = "solver=heun"  # what to use where the two states part

    @abc.abstractmethod
    def begin(self, field: VectorField, t0: float, y0: State) -> Carried:
        """The carried values before the first step."""

    @abc.abstractmethod
    def reversible_step(self, field: VectorField, t0: float, t1: float, carried: Carried) -> Carried:
        """The carried values at t1, from those at t0."""

    @abc.abstractmethod
    def reverse_step(self, field: VectorField, t0: float, t1: float, carried: Carried) -> Carried:
        """The carried values at t0, from those at t1."""

    def distance(self, dt: float, before: Carried, after: Carried) -> Tensor | None:
        """How far the two states are apart after a step; about twice the error of the first once it is large.

        None of a solver whose companions follow from the state.
        """
        del dt, before
        return after[1] - after[0]

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
        """The solution, and what is carried at its end. Warns, on a CPU, if the two states part."""
        ys, steps, q = [y0], 0, quadrature.begin(field, y0)
        qs, distances = [q], []
        grids = self.grids(ts)
        carried: Carried = self.begin(field, read_times(ts)[0], y0) if grids else (y0,)
        for grid in grids:
            for t0, t1 in self.strides(grid):
                before = carried
                carried, gain = self.stride(field, t0, t1, before)
                q = q if gain is None else q + gain
                steps += 1
            if steps:
                with torch.no_grad():
                    distances.append(self.distance(t1 - t0, before, carried))
            ys.append(carried[0])
            qs.append(q)
        states, integrals = torch.stack(ys), quadrature.named(field, torch.stack(qs))
        self._check_together(states.detach(), [far for far in distances if far is not None])
        return Solution(ys=states, integrals=integrals, accepted=steps), carried

    def _check_together(self, ys: Trajectory, distances: list[Tensor]) -> None:
        """Warns if the two states part at an output; not where looking at numbers would wait for a GPU, or fail."""
        if not distances or ys.device.type != "cpu" or torch._C._are_functorch_transforms_active():
            return
        if _largest(torch.stack(distances)) > PARTED * _largest(ys):
            warnings.warn(
                f"the two states that {self.shown_name} carries are more than half of the state's size "
                "apart at an output time, so its solution may be wrong. Smaller steps help for a "
                f"while, where states decay; {self.instead} always, with gradient=checkpoint if memory is short.",
                stacklevel=1,  # always the same place and words, so that it is said once
            )


def _largest(ys: Trajectory) -> Tensor:
    """The largest norm of the states at a time."""
    return torch.linalg.vector_norm(ys.reshape(len(ys), -1), dim=1).max()
