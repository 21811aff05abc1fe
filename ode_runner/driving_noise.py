"""The noise that drives a field along a solve."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ode_runner.field import NoiseDrivenField, VectorField
from ode_runner.noise import Increment, Noise, StepIncrements, Steps
from ode_runner.types import State


class DrivingNoise:
    """Noise in the shape that a field's diffusion multiplies, by which solvers drive the field.

    The increments of steps that are announced by `prepare` are made many at a time.
    """

    def __init__(self, noise: Noise, field: VectorField) -> None:
        self.noise, self.path, self._field = noise, noise.path, field
        self._announced: StepIncrements | None = None

    def prepare(self, steps: Steps, y: State) -> None:
        """Announce the steps of a solve from `y`, forwards or backwards."""
        self._announced = StepIncrements(self.noise, steps, self._shape(y), dtype=y.dtype)

    def increment(self, t0: float, t1: float, y: State) -> Increment:
        """The increment from t0 to t1, (batch, *noise) each, in the type of `y`."""
        if self._announced is None or self._announced.dtype != y.dtype:
            self.prepare([], y)
        assert self._announced is not None
        return self._announced.find(t0, t1)

    def increments(self, steps: Steps, y: State) -> Increment:
        """The same of several steps, (step, batch, *noise) each."""
        return self.noise.increments(steps, self._shape(y), dtype=y.dtype)

    def uniform(self, t: Tensor, which: int, shape: Sequence[int]) -> Tensor:
        """Numbers between 0 and 1, (batch, *shape), by which states jump; see `Noise.uniform`."""
        return self.noise.uniform(t, which, shape)

    def _shape(self, y: State) -> torch.Size:
        assert isinstance(self._field, NoiseDrivenField)
        return self._field.noise_shape(y)
