"""What takes noise to samples."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ode_runner.field import VectorField
from ode_runner.noise import BrownianPath, Noise
from ode_runner.path_field import ConsistencyField, DenoisingField
from ode_runner.problem import Integrate
from ode_runner.types import State, Times, Trajectory

CELLS, DEPTH = 64, 16  # of the noise: steps end on a grid of 2^-22, and one of a few cells costs some tens of draws


@dataclass(frozen=True, kw_only=True)
class Generator:
    """A field that is solved from noise, at `start`, to samples, at `end`, which is before it.

    Noise is known by the sample's number, so that a sample depends on the seed and its number and on nothing else:
    neither on the solver's steps, nor on the batch that it is in.
    """

    rounded: ClassVar[bool] = False  # True: samples are none of the field's states, but made of them
    field: VectorField
    shape: Sequence[int]  # of a sample
    start: float
    end: float
    of_path: bool = (
        True  # whether states on the way are data with noise, so that fresh noise may take their noise's place
    )

    def generate(
        self,
        noise: Noise,
        integrate: Integrate,
        *,
        times: int,
        dtype: torch.dtype,
        given: Sequence[Tensor] = (),
        begun: State | None = None,
    ) -> Trajectory:
        """The samples of the noise at `times` times from the noise to the data: (time, sample, *shape).

        They begin where the noise says, or with `begun`.
        """
        ts: Times = torch.linspace(self.start, self.end, times, dtype=dtype, device=noise.samples.device)
        y0 = self.begin(noise, dtype=dtype) if begun is None else begun
        return self.finished(integrate(self.field, y0, ts, given=given, noise=noise).ys, noise, integrate, given)

    def begin(self, noise: Noise, *, dtype: torch.dtype) -> State:
        """Where samples begin: what the noise does from t = 1 to 2, where no solve needs it."""
        assert isinstance(self.field, DenoisingField | ConsistencyField)
        return self.field.path.noise_std * noise.increment(1.0, 2.0, self.shape, dtype=dtype).w

    def finished(self, path: Trajectory, noise: Noise, integrate: Integrate, given: Sequence[Tensor]) -> Trajectory:
        """What samples are of the states on their way, where they are something else."""
        del noise, integrate, given
        return path


def sample_noise(seed: int, numbers: Tensor) -> Noise:
    """The noise of the samples of these numbers (sample,)."""
    return Noise(path=BrownianPath(seed=seed, cells=CELLS, depth=DEPTH), samples=numbers)
