"""DPM-Solver++(2M)."""

import math
from dataclasses import dataclass, field
from typing import Any, final

from ode_runner.solvers.samplers.sampler import Denoised, Sampler
from ode_runner.solvers.samplers.sampling_grid import Level
from ode_runner.types import State


@final
@dataclass(frozen=True, kw_only=True)
class Dpmpp2m(Sampler):
    """A two-step method in the log-SNR, for data prediction: x_u = (sigma_u / sigma_t) x + alpha_u (1 - e^-h) D.

    D is extrapolated from the last two denoised states to the middle of the step. In the first step, and in a step to
    sigma = 0, it is the last denoised state.

    Lu, Zhou, Bao, Chen, Li, Zhu. DPM-Solver++. 2022, algorithm 2.
    """

    order: int = field(default=2, init=False)

    def step(self, field: Any, history: list[Denoised], after: Level, *, last: bool) -> State:
        now = history[-1]
        h = after.log_snr - now.level.log_snr
        data = now.x0
        if len(history) > 1 and math.isfinite(h):
            before = history[-2]
            behind = now.level.log_snr - before.level.log_snr  # infinite if alpha is 0 there: no extrapolation
            data = data + h / (2 * behind) * (data - before.x0)
        shrunk = after.rho / now.level.rho  # e^-h
        return after.sigma / now.level.sigma * now.x + after.alpha * (1 - shrunk) * data
