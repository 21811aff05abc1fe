"""DDIM."""

from dataclasses import dataclass, field
from typing import Any, final

from ode_runner.solvers.samplers.sampler import Denoised, Sampler
from ode_runner.solvers.samplers.sampling_grid import Level
from ode_runner.types import State


@final
@dataclass(frozen=True, kw_only=True)
class Ddim(Sampler):
    """x_u = alpha_u x0 + sigma_u eps: an Euler step in sigma / alpha; on the linear path it is also one in t.

    Song, Meng, Ermon. Denoising Diffusion Implicit Models. ICLR 2021, eq. 12 with eta = 0.
    """

    order: int = field(default=1, init=False)

    def step(self, field: Any, history: list[Denoised], after: Level, *, last: bool) -> State:
        return history[-1].at(after)
