"""The path whose noise level is proportional to time."""

from typing import ClassVar, final

import torch
from torch import Tensor

from ode_runner.paths.base import GaussianPath


@final
class NoiseLevel(GaussianPath):
    """alpha = 1, sigma = rho_max t: the velocity is rho_max times the predicted noise.

    Args:
        rho_max: the noise level at t = 1.

    Karras, Aittala, Aila, Laine. Elucidating the Design Space of Diffusion-Based Generative Models. NeurIPS 2022,
    section 3.
    """

    name: ClassVar[str] = "rho"

    def __init__(self, *, rho_max: float) -> None:
        self.rho_max = rho_max

    @property
    def noise_std(self) -> float:
        return self.rho_max

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        return self.rho_max * t

    def alpha_dot(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)

    def sigma_dot(self, t: Tensor) -> Tensor:
        return torch.full_like(t, self.rho_max)

    def log_snr(self, t: Tensor) -> Tensor:
        return -torch.log(self.rho_max * t)

    def log_snr_dot(self, t: Tensor) -> Tensor:
        return -1 / t

    def time_of_log_snr(self, log_snr: Tensor) -> Tensor:
        return torch.exp(-log_snr) / self.rho_max
