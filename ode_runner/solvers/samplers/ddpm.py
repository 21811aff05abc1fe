"""Ancestral sampling."""

from dataclasses import dataclass, field
from typing import Any, final

from ode_runner.errors import RefusedInput
from ode_runner.solvers.samplers.ancestral_step import ancestral
from ode_runner.solvers.samplers.sampler import Denoised, Sampler
from ode_runner.solvers.samplers.sampling_grid import Level
from ode_runner.types import State


@final
@dataclass(frozen=True, kw_only=True)
class Ddpm(Sampler):
    """x_u = alpha_u x0 + (sigma_u^2 - q^2)^(1/2) eps + q z with q = eta sigma_u (1 - e^-2h)^(1/2).

    The last step has no noise and is one of DDIM. With eta = 1 the sampler is the ancestral sampling of DDPM; with
    eta = 0 it is DDIM.

    Ho, Jain, Abbeel. Denoising Diffusion Probabilistic Models. NeurIPS 2020. · Song, Meng, Ermon. Denoising Diffusion
    Implicit Models. ICLR 2021, eq. 12 and 16.
    """

    order: int = field(default=1, init=False)
    eta: float  # from 0 to 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.eta <= 1:
            raise RefusedInput(f"solver.eta must be from 0 to 1, not {self.eta}.")

    @property
    def draws(self) -> bool:
        return self.eta > 0

    def step(self, field: Any, history: list[Denoised], after: Level, *, last: bool) -> State:
        now = history[-1]
        return now.at(after) if last or not self.eta else ancestral(field, now, after, eta=self.eta)
