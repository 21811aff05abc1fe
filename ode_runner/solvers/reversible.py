"""Algebraically reversible solvers with fixed steps."""

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

Carried = tuple[Tensor, ...]  # the state, and the auxiliary tensors that reversing a step needs
SEPARATED = 0.5  # distance of the two states relative to the state's size; large steps or noise alone reach 0.2


@dataclass(frozen=True, kw_only=True)
class ReversibleSolver(FixedStepSolver):
    """An algebraically reversible solver: `reverse_step` is the exact inverse of `reversible_step` for any step size.

    This is a property of the formulas and needs no Newton iteration. It does not make the field reversible: a
    contracting field amplifies rounding errors in the backward pass as it would any error.
    """

    kind: ClassVar[str] = "of fixed step and reversible"
    packs: ClassVar[bool] = True  # True: integrals are appended to the state; False: `stride` returns their increments
    instead: ClassVar[str] = "solver=heun"  # for messages: what to use if the two states diverge from each other

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
        """The difference of the two states after a step; once large, it is about twice the error of the first.

        None for a solver whose auxiliary tensors follow from the state.
        """
        del dt, before
        return after[1] - after[0]

    @staticmethod
    def strides(grid: list[float]) -> list[tuple[float, float]]:
        """The steps along a grid, without those of length 0, which would change the auxiliary tensors."""
        return [(t0, t1) for t0, t1 in pairwise(grid) if t0 != t1]

    def stride(self, field: VectorField, t0: float, t1: float, carried: Carried) -> tuple[Carried, Tensor | None]:
        """`reversible_step` and the increment of integrals; None if they are in the state, or if there are none."""
        return self.reversible_step(field, t0, t1, carried), None

    def check_integrals(self) -> None:
        """Accepted: integrals are appended to the state, or computed by `stride`."""

    def solve(self, field: VectorField, y0: State, ts: Times) -> Solution:
        return solve_packed(lambda *where: self.solve_noting_steps(*where)[0], field, y0, ts)

    def solve_noting_steps(self, field: VectorField, y0: State, ts: Times) -> tuple[Solution, Carried]:
        """The solution and the carried values at its end. Warns, on a CPU, if the two states drift apart."""
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
        """Warns if the two states are far apart at an output; not on a GPU, which would wait, nor in torch.func."""
        if not distances or ys.device.type != "cpu" or torch._C._are_functorch_transforms_active():
            return
        if _largest(torch.stack(distances)) > SEPARATED * _largest(ys):
            warnings.warn(
                f"the two states that {self.shown_name} carries are more than half of the state's size "
                "apart at an output time, so its solution may be wrong. Smaller steps help for a "
                f"while, where states decay; {self.instead} always, with gradient=checkpoint if memory is short.",
                stacklevel=1,  # always the same place and words, so that Python shows it once
            )


def _largest(ys: Trajectory) -> Tensor:
    """The largest norm of the states at a time."""
    return torch.linalg.vector_norm(ys.reshape(len(ys), -1), dim=1).max()
