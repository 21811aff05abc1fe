"""The noise that drives a field along a solve."""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from ode_runner.errors import RefusedInput
from ode_runner.field import NoiseDrivenField, VectorField
from ode_runner.noise.brownian_path import BrownianPath, Increment, Noise, StepIncrements, Steps
from ode_runner.types import State

CLOSE = 0.25  # largest error of a step's length by rounding to the grid of the noise, as a part of the longest step
MOST_CELLS = 100_000  # of one step; each cell is a draw of its own


class DrivingNoise:
    """Brownian increments in the noise shape of a field, for solvers.

    Increments of steps that `prepare` announces are drawn many at a time, which is faster.
    """

    def __init__(self, noise: Noise, field: VectorField) -> None:
        self.noise, self.path, self._field = noise, noise.path, field
        self._announced: StepIncrements | None = None

    def prepare(self, steps: Steps, y: State) -> None:
        """Announce the steps of a solve from `y`, forwards or backwards.

        Raises:
            RefusedInput: the grid of the path is too coarse for these steps, or too fine.
        """
        _check_resolved(self.path, tuple(steps))
        self._announced = StepIncrements(self.noise, steps, self._shape(y), dtype=y.dtype)

    def increment(self, t0: float, t1: float, y: State) -> Increment:
        """The increment from t0 to t1, (batch, *noise) each, in the dtype of `y`."""
        if self._announced is None or self._announced.dtype != y.dtype:
            self.prepare([], y)
        assert self._announced is not None
        return self._announced.find(t0, t1)

    def increments(self, steps: Steps, y: State) -> Increment:
        """The increments of several steps, (step, batch, *noise) each; raises as `prepare` does."""
        _check_resolved(self.path, tuple(steps))
        return self.noise.increments(steps, self._shape(y), dtype=y.dtype)

    def uniform(self, t: Tensor, which: int, shape: Sequence[int]) -> Tensor:
        """Uniform random numbers for jumps, (batch, *shape); see `Noise.uniform`."""
        return self.noise.uniform(t, which, shape)

    def _shape(self, y: State) -> torch.Size:
        assert isinstance(self._field, NoiseDrivenField)
        return self._field.noise_shape(y)


@lru_cache(maxsize=256)  # training uses the same grid in every step
def _check_resolved(path: BrownianPath, steps: tuple[tuple[float, float], ...]) -> None:
    """Raises RefusedInput if rounding to the path's grid changes steps much, or if a step has too many cells.

    Ends of steps are rounded to the path's finest grid. Errors that are small compared with the longest step are fine.
    """
    longest = max((abs(t1 - t0) for t0, t1 in steps), default=0.0)
    if longest * path.cells > MOST_CELLS:
        raise RefusedInput(
            f"a step of {longest:.3g} is as long as {longest * path.cells:.3g} cells of the noise, and there are "
            f"{path.cells} in a unit of time. Count time in longer units."
        )
    missed = max((abs(path.nearest(t1) - path.nearest(t0) - (t1 - t0)) for t0, t1 in steps), default=0.0)
    if missed > CLOSE * longest:
        raise RefusedInput(
            f"a step of {longest:.3g} is driven by noise whose times are rounded to multiples of "
            f"{1 / (path.cells << path.depth):.3g} (cells={path.cells}, depth={path.depth}), that is by the noise of "
            "other times. Give BrownianPath a larger depth or more cells, or end steps on such times."
        )
