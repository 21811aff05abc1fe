"""The path of noise-conditional score networks."""

import math
from typing import ClassVar, final

import torch
from torch import Tensor

from ode_runner.paths.base import GaussianPath


@final
class VarianceExploding(GaussianPath):
    """alpha = 1, sigma = sigma_min (sigma_max / sigma_min)^t: noise of sigma_min remains at t = 0.

    Args:
        sigma_min: the noise level at t = 0, far below the standard deviation of the data.
        sigma_max: the noise level at t = 1, far above it.

    Song et al. Score-Based Generative Modeling through SDEs. ICLR 2021, appendix C.
    """

    name: ClassVar[str] = "ve"
    end_time: ClassVar[float] = 1e-5

    def __init__(self, *, sigma_min: float, sigma_max: float) -> None:
        self.sigma_min, self.growth = sigma_min, math.log(sigma_max / sigma_min)

    @property
    def noise_std(self) -> float:
        return self.sigma_min * math.exp(self.growth)

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        return self.sigma_min * torch.exp(self.growth * t)

    def alpha_dot(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)

    def sigma_dot(self, t: Tensor) -> Tensor:
        return self.growth * self.sigma(t)

    def log_snr(self, t: Tensor) -> Tensor:
        return -math.log(self.sigma_min) - self.growth * t

    def log_snr_dot(self, t: Tensor) -> Tensor:
        return torch.full_like(t, -self.growth)

    def time_of_log_snr(self, log_snr: Tensor) -> Tensor:
        return (-log_snr - math.log(self.sigma_min)) / self.growth
