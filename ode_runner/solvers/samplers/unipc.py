"""UniPC."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import torch
from torch import Tensor

from ode_runner.errors import RefusedInput
from ode_runner.solvers.samplers.sampler import Denoised, Sampler
from ode_runner.solvers.samplers.sampling_grid import Level
from ode_runner.types import State

ORDERS = (1, 2, 3)


@final
@dataclass(frozen=True, kw_only=True)
class UniPC(Sampler):
    """A predictor in the log-SNR, and a corrector that uses the next step's evaluation: order `order` + 1.

    The first and the last steps are of lower order. The last has no corrector, because there is no evaluation at its
    end. So the error of samples is of order 2, with a small constant; earlier states have smaller errors.

    Zhao, Bai, Rao, Zhou, Lu. UniPC. NeurIPS 2023, algorithms 1 and 2 for the data, with B(h) = e^h - 1.
    """

    order: int  # of the predictor: 1, 2 or 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.order not in ORDERS:
            raise RefusedInput(f"solver.order={self.order}: unipc has order 1, 2 or 3.")

    def step(self, field: Any, history: list[Denoised], after: Level, *, last: bool) -> State:
        past = self._used(history, left=self.steps - len(history) + 1)
        if math.isinf(after.log_snr):
            past = past[-1:]
        step = _Step.between(past, after)
        if len(past) == 1:
            return step.base
        if len(past) == 2:
            return step.moved([0.5], step.differences)
        return step.moved(step.weights(len(past) - 1), step.differences)

    def corrected(self, history: list[Denoised]) -> Denoised:
        now = history[-1]
        past = self._used(history[:-1], left=self.steps - len(history) + 2)
        step = _Step.between(past, now.level)
        weights = [0.5] if len(past) == 1 else step.weights(len(past))
        return now._replace(x=step.moved(weights, [*step.differences, now.x0 - past[-1].x0]))

    def _used(self, history: list[Denoised], *, left: int) -> list[Denoised]:
        """The entries that a step uses: as many as its order, which is at most `left`, the remaining steps."""
        finite = [past for past in history[:-1] if math.isfinite(past.level.log_snr)]
        return [*finite, history[-1]][-min(self.order, left) :]


class _Step(NamedTuple):
    """The quantities that predictor and corrector of a step share."""

    base: State  # the next state if the predicted data were constant
    scale: float  # -alpha_u B
    h: float
    ratios: list[float]  # earlier levels relative to the present one, in units of the step
    differences: list[Tensor]  # differences of their denoised states from the present one, divided by `ratios`

    @classmethod
    def between(cls, past: Sequence[Denoised], after: Level) -> "_Step":
        now = past[-1]
        h = after.log_snr - now.level.log_snr
        decay = -math.expm1(-h)  # 1 - e^-h
        ratios = [(before.level.log_snr - now.level.log_snr) / h for before in past[-2::-1]]
        differences = [(before.x0 - now.x0) / r for before, r in zip(past[-2::-1], ratios, strict=True)]
        base = after.sigma / now.level.sigma * now.x + after.alpha * decay * now.x0
        return cls(base, after.alpha * decay, h, ratios, differences)

    def moved(self, weights: Sequence[float], differences: Sequence[Tensor]) -> State:
        x = self.base
        for weight, difference in zip(weights, differences, strict=True):
            x = x + self.scale * weight * difference
        return x

    def weights(self, count: int) -> list[float]:
        """The first `count` weights for which polynomials are exact, at the earlier places and the step's end."""
        ratios = torch.tensor([*self.ratios, 1.0][:count], dtype=torch.float64)
        powers = torch.stack([ratios**k for k in range(count)])
        rate, scale = -self.h, math.expm1(-self.h)
        phi, moments = scale / rate - 1, []  # phi_k of -h, times k!, over B
        for k in range(1, count + 1):
            moments.append(phi * math.factorial(k) / scale)
            phi = phi / rate - 1 / math.factorial(k + 1)
        return torch.linalg.solve(powers, torch.tensor(moments, dtype=torch.float64)).tolist()
