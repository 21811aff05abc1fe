"""Runge-Kutta steps on a fixed grid."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from ode_runner.devices.transfer import read_times
from ode_runner.field import VectorField
from ode_runner.solvers.base import FixedStepSolver, rounding_of
from ode_runner.solvers.one_step import AcceptedStep, ExplicitRungeKutta, RungeKutta, Step
from ode_runner.solvers.steps_to_event import up_to_event
from ode_runner.types import State, Times


@dataclass(frozen=True, kw_only=True)
class FixedGridSolver(RungeKutta, FixedStepSolver):
    """A Runge-Kutta method whose steps end on every output time."""

    def steps(self, field: VectorField, y0: State, ts: Times) -> Iterator[Step]:
        for grid in self.grids(ts):
            for t0, t1 in pairwise(grid):
                y1, ks = self.step(field, t0, t1, y0, self.slope(field, t0, y0))
                yield Step(t0=t0, t1=t1, y0=y0, y1=y1, ks=ks, due=[t1] if t1 == grid[-1] else [])
                y0 = y1


@dataclass(frozen=True, kw_only=True)
class FixedStepRungeKutta(ExplicitRungeKutta, FixedGridSolver):
    """An explicit Runge-Kutta method with fixed steps, of `len(tableau.b)` evaluations each.

    All steps are equal, whatever the output times. Outputs within a step are interpolated by the cubic Hermite
    polynomial. Its slope at t1 is the next step's first stage, so that it costs an extra evaluation in the last step
    only. The same holds for the search for an event.
    """

    in_words: ClassVar[str] = "an explicit Runge-Kutta method of fixed step"  # for messages about such an option

    def steps(self, field: VectorField, y0: State, ts: Times) -> Iterator[Step]:
        return up_to_event(self, field, self._steps(field, y0, ts))

    def grid_steps(self, ts: Times) -> list[AcceptedStep]:
        """The steps of a solve and the outputs due in each, which are known before the solve."""
        times = read_times(ts)
        if len(times) == 1:
            return []
        grid = self.grid(ts)
        rounding = min(rounding_of(ts, times[0], times[-1]), abs(grid[1] - grid[0]) / 4)
        return [
            AcceptedStep(t0=t0, t1=t1, due=due_times(times[1:], t0, t1, rounding, first=t0 == grid[0]))
            for t0, t1 in pairwise(grid)
        ]

    def _steps(self, field: VectorField, y0: State, ts: Times) -> Iterator[Step]:
        f0, stepper = None, self.stepper(field)
        for interval in self.grid_steps(ts):
            taken = stepper.step(interval.t0, interval.t1, y0, f0)
            f0 = stepper.slope(interval.t1, taken.y1) if self.sought is not None or interval.dense else None
            step = Step(t0=interval.t0, t1=interval.t1, due=interval.due, y0=y0, y1=taken.y1, ks=taken.ks, f1=f0)
            yield self.detailed(field, step)
            y0 = taken.y1


def due_times(times: list[float], t0: float, t1: float, rounding: float, *, first: bool) -> list[float]:
    """The output times in (t0, t1]; a time within rounding of t1, `rounding`, is replaced by t1."""
    sign = 1 if t1 >= t0 else -1
    within = [t for t in times if (first or sign * (t - t0) > rounding) and sign * (t - t1) <= rounding]
    return [t1 if abs(t - t1) <= rounding else t for t in within]
