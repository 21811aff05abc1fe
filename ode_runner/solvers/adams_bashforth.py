"""The base class of the Adams-Bashforth multistep methods."""

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch

from ode_runner.devices.transfer import read_times
from ode_runner.field import VectorField
from ode_runner.problem import Solution
from ode_runner.solvers.base import FixedStepSolver, rounding_of
from ode_runner.solvers.packed_field import solve_packed
from ode_runner.solvers.runge_kutta import due_times
from ode_runner.solvers.tableau import Tableau, advance, explicit_step, stage_time, time_tensor
from ode_runner.types import State, Times


@dataclass(frozen=True, kw_only=True)
class AdamsBashforth(FixedStepSolver):
    """y1 = y0 + dt (weights @ the last slopes): one evaluation per step, after a start by Runge-Kutta steps.

    All steps are equal, whatever the output times. Outputs within a step are interpolated by the cubic Hermite
    polynomial, which costs an extra evaluation in the last step only.

    Hairer, Norsett, Wanner. Solving Ordinary Differential Equations I. Springer 1993, III.1.
    """

    kind: ClassVar[str] = "multistep"
    backward_weights: ClassVar[tuple[float, ...]]  # of the slopes, the newest first
    start: ClassVar[Tableau]  # explicit method for the first steps; its order is at least `order` - 1

    def check_integrals(self) -> None:
        """Accepted: integrals are appended to the state."""

    def solve(self, field: VectorField, y0: State, ts: Times) -> Solution:
        return solve_packed(self._solve, field, y0, ts)

    def _solve(self, field: VectorField, y0: State, ts: Times) -> Solution:
        times, ys, slopes = read_times(ts), [y0], list[State]()
        if len(times) == 1:
            return Solution(ys=torch.stack(ys))
        grid, y, f1 = self.grid(ts), y0, None
        rounding = min(rounding_of(ts, times[0], times[-1]), abs(grid[1] - grid[0]) / 4)
        for t0, t1 in pairwise(grid):
            f0 = field(time_tensor(t0, y), y) if f1 is None else f1
            slopes = [f0, *slopes[: len(self.backward_weights) - 1]]
            y1 = self._step(field, t0, t1, y, slopes)
            due = due_times(times[1:], t0, t1, rounding, first=t0 == grid[0])
            f1 = field(time_tensor(t1, y1), y1) if any(t != t1 for t in due) else None
            for t in due:
                ys.append(y1 if f1 is None or t == t1 else _between((t - t0) / (t1 - t0), t1 - t0, (y, f0), (y1, f1)))
            y = y1
        return Solution(ys=torch.stack(ys), accepted=len(grid) - 1)

    def _step(self, field: VectorField, t0: float, t1: float, y0: State, slopes: list[State]) -> State:
        """One step; by the method `start` as long as there are too few slopes."""
        if len(slopes) == len(self.backward_weights):
            return advance(y0, t1 - t0, self.backward_weights, slopes)

        def slope(c: float, y: State) -> State:
            return field(time_tensor(stage_time(t0, t1, c), y), y)

        return explicit_step(self.start, slope, t1 - t0, y0, slopes[0], rows=len(self.start.b))[0]


def _between(x: float, dt: float, begin: tuple[State, State], end: tuple[State, State]) -> State:
    """The cubic Hermite polynomial of a step at the fraction x."""
    (y0, f0), (y1, f1), r = begin, end, 1 - x
    return r**2 * (1 + 2 * x) * y0 + x**2 * (1 + 2 * r) * y1 + x * r * dt * (r * f0 - x * f1)
