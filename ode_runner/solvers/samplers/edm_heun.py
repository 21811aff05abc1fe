"""The sampler of EDM."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, final

import torch

from ode_runner.errors import RefusedInput
from ode_runner.solvers.samplers.sampler import Denoised, Sampler, path_of, standard_normal
from ode_runner.solvers.samplers.sampling_grid import GridName, Level
from ode_runner.types import State


@final
@dataclass(frozen=True, kw_only=True)
class EdmHeun(Sampler):
    """Heun's method in rho = sigma / alpha, for x / alpha: two evaluations per step.

    A step to sigma = 0, or from alpha = 0, is an Euler step with one evaluation.

    With `s_churn`, each step that begins at a rho in [`s_min`, `s_max`] first returns to a larger rho by adding fresh
    noise of standard deviation `s_noise`.

    Karras, Aittala, Aila, Laine. Elucidating the Design Space of Diffusion-Based Generative Models. NeurIPS 2022,
    algorithm 2.
    """

    usual_grid: ClassVar[GridName] = "karras"
    order: int = field(default=2, init=False)
    s_churn: float  # total over the span; 0: no noise is drawn
    s_min: float
    s_max: float | None  # None: no upper limit
    s_noise: float

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("s_churn", "s_min", "s_noise"):
            if not 0 <= getattr(self, name) < math.inf:
                raise RefusedInput(f"solver.{name} must be 0 or more, not {getattr(self, name)}.")
        if self.s_max is not None and self.s_max < self.s_min:  # there would be no churn at all
            raise RefusedInput(f"solver.s_max must be at least solver.s_min={self.s_min}, not {self.s_max}.")

    @property
    def draws(self) -> bool:
        return self.s_churn > 0

    def unused_options(self) -> Mapping[str, str]:
        return {} if self.draws else dict.fromkeys(("s_min", "s_max", "s_noise"), "solver.s_churn=0")

    def step(self, field: Any, history: list[Denoised], after: Level, *, last: bool) -> State:
        now = self._churned(field, history[-1], after)
        reached = now.at(after)
        if after.sigma == 0 or math.isinf(now.level.rho):
            return reached
        change = self.denoised(field, after, reached).eps - now.eps
        return reached + after.alpha * (after.rho - now.level.rho) / 2 * change

    def _churned(self, field: Any, now: Denoised, after: Level) -> Denoised:
        """The state with noise added, and its denoised state."""
        rho, largest = now.level.rho, math.inf if self.s_max is None else self.s_max
        grown = min(self.s_churn / self.steps, math.sqrt(2) - 1)
        if not grown or math.isinf(rho) or not self.s_min <= rho <= largest:
            return now
        path = path_of(field)
        time = path.time_of_rho(torch.tensor(rho * (1 + grown), dtype=torch.float64))
        level = Level.at(path, float(time))
        noise = standard_normal(field, now.level.t, after.t, now.x)
        added = self.s_noise * math.sqrt(level.rho**2 - rho**2)
        return self.denoised(field, level, level.alpha * (now.x / now.level.alpha + added * noise))
