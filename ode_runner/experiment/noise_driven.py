"""Solves of stochastic fields, driven by the noise of each sample."""

from typing import Unpack, final

import torch
from torch import Tensor

from ode_runner.encoding import Encoding, state_and_given
from ode_runner.field import StochasticField, VectorField
from ode_runner.noise.brownian_path import BrownianPath, Noise
from ode_runner.problem import Integrate, Solution, SolveOptions, WrappedIntegrate
from ode_runner.types import State, Times


@final
class NoiseDriven(WrappedIntegrate):
    """Integrates for a model that does not handle noise itself: adds `noise` to solves of stochastic fields.

    A model may begin with several states for each sample, stacked batch after batch. Each state has its own noise.
    """

    def __init__(self, integrate: Integrate, noise: Noise) -> None:
        super().__init__(integrate)
        self.noise = noise

    def __call__(
        self, field: VectorField, y0: State | Encoding, ts: Times, **options: Unpack[SolveOptions]
    ) -> Solution:
        if isinstance(field, StochasticField) and options.get("noise") is None:
            state, _ = state_and_given(y0, ())
            options["noise"] = self.noise.copies(max(1, len(state) // max(1, len(self.noise.samples))))
        return super().__call__(field, y0, ts, **options)


def with_noise(
    integrate: Integrate, path: BrownianPath | None, count: int, numbers: Tensor | None, *, device: torch.device
) -> Integrate:
    """`integrate` driven by the noise of the samples `numbers` (count,); None: samples are numbered from 0.

    Returned as it is if `path` is None, because the task's equation is then an ordinary one.
    """
    if path is None:
        return integrate
    return NoiseDriven(
        integrate, Noise(path=path, samples=torch.arange(count, device=device) if numbers is None else numbers)
    )
