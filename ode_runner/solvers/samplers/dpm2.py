"""DPM-Solver-2."""

import math
from dataclasses import dataclass, field
from typing import Any, final

import torch

from ode_runner.solvers.samplers.sampler import Denoised, Sampler, path_of
from ode_runner.solvers.samplers.sampling_grid import Level
from ode_runner.types import State


@final
@dataclass(frozen=True, kw_only=True)
class Dpm2(Sampler):
    """The midpoint rule in the log-SNR, for noise prediction: two evaluations per step.

    A step that begins with alpha = 0 or ends with sigma = 0 is a DDIM step with one evaluation.

    Lu, Zhou, Bao, Chen, Li, Zhu. DPM-Solver. NeurIPS 2022, algorithm 1 with r1 = 1/2.
    """

    order: int = field(default=2, init=False)

    def step(self, field: Any, history: list[Denoised], after: Level, *, last: bool) -> State:
        now = history[-1]
        if not (math.isfinite(now.level.log_snr) and math.isfinite(after.log_snr)):
            return now.at(after)
        middle = self._middle(field, now.level, after)
        change = self.denoised(field, middle, now.at(middle)).eps - now.eps
        return now.at(after) + after.alpha * (after.rho - now.level.rho) * change

    @staticmethod
    def _middle(field: Any, now: Level, after: Level) -> Level:
        path = path_of(field)
        log_snr = torch.tensor((now.log_snr + after.log_snr) / 2, dtype=torch.float64)
        return Level.at(path, float(path.time_of_log_snr(log_snr)))
