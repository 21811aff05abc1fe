"""The field of a Gaussian mixture, in closed form at every noise level."""

import math
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from ode_runner.field import broadcast_time
from ode_runner.paths.base import GaussianPath
from ode_runner.paths.denoising_field import KnownDistribution
from ode_runner.types import State, Time


@final
class GaussianMixture(KnownDistribution):
    """The field of a path from data that are a mixture of N(m_k, std^2 I) with equal weights.

    With v = alpha^2 std^2 + sigma^2, x_t is the mixture of N(alpha m_k, v I). Let m be the mean of m_k with weights
    softmax(-|x - alpha m_k|^2 / 2v), and r = x - alpha m. Then E[x_0 | x] = m + alpha std^2 r / v and E[e | x] = sigma
    r / v; both are finite at every time.

    A condition, if given, selects components: 1 for those that count, 0 for others; all 0 selects all.

    Args:
        path: from the data to noise.
        means: (components, size).
        std: of each component; 0 for points.
    """

    batched_time = True
    means: Tensor

    def __init__(self, path: GaussianPath, *, means: Tensor, std: float) -> None:
        super().__init__()
        self.path, self.std = path, std
        self.register_buffer("means", means, persistent=False)

    def denoise(self, t: Time, x: State, *given: Tensor) -> State:
        mean, residual, alpha, _ = self._posterior(t, x, given)
        return mean + alpha * self.std**2 * residual

    def forward(self, t: Time, y: State, *given: Tensor) -> State:
        time = broadcast_time(t, y)
        mean, residual, alpha, sigma = self._posterior(t, y, given)
        denoised = mean + alpha * self.std**2 * residual
        return self.path.alpha_dot(time) * denoised + self.path.sigma_dot(time) * sigma * residual

    def log_density(self, x: State, *given: Tensor) -> Tensor:
        logits = self._logits(x, x.new_ones(()), x.new_tensor(self.std**2), given)
        counted = torch.isfinite(logits).sum(dim=1).to(x.dtype)
        return torch.logsumexp(logits, dim=1) - x.shape[1] / 2 * math.log(2 * math.pi * self.std**2) - counted.log()

    def along(self, path: GaussianPath) -> "GaussianMixture":
        return GaussianMixture(path, means=self.means, std=self.std)

    def _posterior(self, t: Time, x: State, given: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The posterior mean of m_k, the residual of x divided by the variance, alpha and sigma."""
        time = broadcast_time(t, x)
        alpha, sigma, variance = self.path.alpha(time), self.path.sigma(time), self._variance(time)
        mean = torch.softmax(self._logits(x, alpha, variance, given), dim=1) @ self.means.to(x)
        return mean, (x - alpha * mean) / variance, alpha, sigma

    def _variance(self, time: Tensor) -> Tensor:
        return (self.path.alpha(time) * self.std).square() + self.path.sigma(time).square()

    def _logits(self, x: State, alpha: Tensor, variance: Tensor, given: Sequence[Tensor]) -> Tensor:
        """-|x - alpha m_k|^2 / 2v, (batch, components), without the constant that all components share."""
        apart = x[:, None] - alpha[..., None] * self.means.to(x)
        logits = -apart.square().sum(dim=-1) / (2 * variance)
        for condition in given:
            left_out = (condition == 0) & condition.any(dim=1, keepdim=True)
            logits = logits.masked_fill(left_out, -math.inf)
        return logits
