"""Solves of stochastic fields by the noise of their samples."""

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
    """Solves for a model that knows of no noise: stochastic fields are driven by this one, others solved as they are.

    A model may begin with several states of each sample, one batch of them after the other: each has noise of its own.
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
    """What solves along the noise of the samples of these numbers (count,), None being their places.

    Itself where a task has no path, since its equation is an ordinary one.
    """
    if path is None:
        return integrate
    return NoiseDriven(
        integrate, Noise(path=path, samples=torch.arange(count, device=device) if numbers is None else numbers)
    )
