"""The noise that drives a field along a solve."""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from ode_runner.errors import RefusedInput
from ode_runner.field import NoiseDrivenField, VectorField
from ode_runner.noise.brownian_path import BrownianPath, Increment, Noise, StepIncrements, Steps
from ode_runner.types import State

CLOSE = 0.25  # part of a step by which the noise of its ends may be that of another length
MOST_CELLS = 100_000  # of a step, each of which is drawn by itself


class DrivingNoise:
    """Noise in the shape that a field's diffusion multiplies, by which solvers drive the field.

    The increments of steps that are announced by `prepare` are made many at a time.
    """

    def __init__(self, noise: Noise, field: VectorField) -> None:
        self.noise, self.path, self._field = noise, noise.path, field
        self._announced: StepIncrements | None = None

    def prepare(self, steps: Steps, y: State) -> None:
        """Announce the steps of a solve from `y`, forwards or backwards.

        Raises:
            RefusedInput: the path is too coarse for them, or too fine.
        """
        _check_resolved(self.path, tuple(steps))
        self._announced = StepIncrements(self.noise, steps, self._shape(y), dtype=y.dtype)

    def increment(self, t0: float, t1: float, y: State) -> Increment:
        """The increment from t0 to t1, (batch, *noise) each, in the type of `y`."""
        if self._announced is None or self._announced.dtype != y.dtype:
            self.prepare([], y)
        assert self._announced is not None
        return self._announced.find(t0, t1)

    def increments(self, steps: Steps, y: State) -> Increment:
        """The increments of several steps, (step, batch, *noise) each; refuses what `prepare` does."""
        _check_resolved(self.path, tuple(steps))
        return self.noise.increments(steps, self._shape(y), dtype=y.dtype)

    def uniform(self, t: Tensor, which: int, shape: Sequence[int]) -> Tensor:
        """Numbers between 0 and 1, (batch, *shape), by which states jump; see `Noise.uniform`."""
        return self.noise.uniform(t, which, shape)

    def _shape(self, y: State) -> torch.Size:
        assert isinstance(self._field, NoiseDrivenField)
        return self._field.noise_shape(y)


@lru_cache(maxsize=256)  # training asks for the same grid again and again
def _check_resolved(path: BrownianPath, steps: tuple[tuple[float, float], ...]) -> None:
    """Raises RefusedInput where steps would be driven by the noise of other times, or by more cells than can be drawn.

    Ends of steps are rounded to the path's finest grid; what is short beside the longest step does not matter.
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
