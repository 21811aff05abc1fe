"""Generators: a field, solved from noise to samples."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ode_runner.field import VectorField
from ode_runner.noise.brownian_path import BrownianPath, Noise
from ode_runner.paths.denoising_field import ConsistencyField, DenoisingField
from ode_runner.problem import Integrate
from ode_runner.types import State, Times, Trajectory

CELLS, DEPTH = 64, 16  # of the noise: its grid has spacing 2^-22, and a step of a few cells costs some tens of draws


@dataclass(frozen=True, kw_only=True)
class Generator:
    """A field that is solved from noise, at `start`, to samples, at `end` < `start`.

    Noise is a function of seed and sample number only. So it depends neither on the solver's steps nor on the rest of
    the batch.
    """

    rounded: ClassVar[bool] = False  # True: samples are computed from the field's states
    field: VectorField
    shape: Sequence[int]  # of a sample
    start: float
    end: float
    of_path: bool = True  # True: states are data plus independent noise, which fresh noise may replace

    def generate(
        self,
        noise: Noise,
        integrate: Integrate,
        *,
        times: int,
        dtype: torch.dtype,
        given: Sequence[Tensor] = (),
    ) -> Trajectory:
        """Samples, one per sample number of `noise`, at `times` times from noise to data: (time, sample, *shape).

        Args:
            dtype: dtype of times and of real states.
            given: the tensors that the field receives after time and state, with the sample as first axis.
        """
        y0, ts = self.initial(noise, times=times, dtype=dtype)
        return self.finished(self.path(y0, ts, noise, integrate, given), noise, integrate, given)

    def initial(self, noise: Noise, *, times: int, dtype: torch.dtype) -> tuple[State, Times]:
        """The states at `start`, and `times` times from there to `end`."""
        ts = torch.linspace(self.start, self.end, times, dtype=dtype, device=noise.samples.device)
        return self.begin(noise, dtype=dtype), ts

    def begin(self, noise: Noise, *, dtype: torch.dtype) -> State:
        """The states at `start`: the increment of the noise from t = 1 to 2, which no solve uses."""
        assert isinstance(self.field, DenoisingField | ConsistencyField)
        return self.field.path.std_at(self.start) * noise.increment(1.0, 2.0, self.shape, dtype=dtype).w

    def path(self, y0: State, ts: Times, noise: Noise, integrate: Integrate, given: Sequence[Tensor]) -> Trajectory:
        """The states at `ts`; the first ones are `y0`."""
        return integrate(self.field, y0, ts, given=given, noise=noise).ys

    def finished(self, path: Trajectory, noise: Noise, integrate: Integrate, given: Sequence[Tensor]) -> Trajectory:
        """The samples that correspond to the states of a path; by default the states themselves."""
        del noise, integrate, given
        return path


def sample_noise(seed: int, numbers: Tensor) -> Noise:
    """The noise of the samples with these numbers (sample,)."""
    return Noise(path=BrownianPath(seed=seed, cells=CELLS, depth=DEPTH), samples=numbers)
