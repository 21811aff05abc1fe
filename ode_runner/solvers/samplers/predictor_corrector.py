"""Ancestral sampling with Langevin corrector steps."""

from dataclasses import dataclass, field
from typing import Any, final

from torch import Tensor

from ode_runner.errors import RefusedInput
from ode_runner.solvers.samplers.ancestral_step import ancestral
from ode_runner.solvers.samplers.sampler import Denoised, Sampler, standard_normal
from ode_runner.solvers.samplers.sampling_grid import Level
from ode_runner.types import State

APART = 2  # time offset between the noises of one step, so that none is used twice


@final
@dataclass(frozen=True, kw_only=True)
class PredictorCorrector(Sampler):
    """Each step of ancestral sampling, except the last, is followed by `corrections` Langevin steps at the new level.

    The step size is 2 A (`signal_to_noise` |z| / |score|)^2. The norms are means over the batch, so that samples depend
    on each other. A is (alpha_t / alpha_u)^2 of the step, which is 1 - beta on the variance-preserving path. Because
    the step size is finite, the standard deviation of samples is too large, however many steps there are: for normal
    data by the factor (1 + signal_to_noise^2)^(1/2).

    Song et al. Score-Based Generative Modeling through SDEs. ICLR 2021, algorithms 4 and 5.
    """

    order: int = field(default=1, init=False)  # weak order of the ancestral steps
    corrections: int
    signal_to_noise: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.corrections < 1:
            raise RefusedInput(f"solver.corrections must be at least 1, not {self.corrections}. Use solver=ddpm.")
        if not self.signal_to_noise > 0:
            raise RefusedInput(f"solver.signal_to_noise must be above 0, not {self.signal_to_noise}.")

    @property
    def draws(self) -> bool:
        return True

    def step(self, field: Any, history: list[Denoised], after: Level, *, last: bool) -> State:
        now = history[-1]
        if last:
            return now.at(after)
        x, kept = ancestral(field, now, after, eta=1.0), (now.level.alpha / after.alpha) ** 2
        for number in range(1, self.corrections + 1):
            score = -self.denoised(field, after, x).eps / after.sigma
            shift = APART * number
            noise = standard_normal(field, now.level.t + shift, after.t + shift, x)
            length = 2 * kept * (self.signal_to_noise * _mean_norm(noise) / _mean_norm(score)) ** 2
            x = x + length * score + (2 * length).sqrt() * noise
        return x


def _mean_norm(x: Tensor) -> Tensor:
    return x.flatten(1).norm(dim=1).mean()
