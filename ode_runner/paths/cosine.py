"""The trigonometric path."""

import math
from typing import ClassVar, final

import torch
from torch import Tensor

from ode_runner.paths.base import GaussianPath

ANGLE = math.pi / 2  # per unit of time


@final
class Cosine(GaussianPath):
    """alpha = cos(pi t / 2), sigma = sin(pi t / 2); alpha is 0 at t = 1.

    Nichol, Dhariwal. Improved Denoising Diffusion Probabilistic Models. ICML 2021. · Lu, Song. Simplifying, Stabilizing
    and Scaling Continuous-Time Consistency Models. 2024, whose angle is pi t / 2.
    """

    name: ClassVar[str] = "cosine"

    def alpha(self, t: Tensor) -> Tensor:
        return torch.sin(ANGLE * (1 - t))  # exactly 0 at t = 1

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sin(ANGLE * t)

    def alpha_dot(self, t: Tensor) -> Tensor:
        return -ANGLE * self.sigma(t)

    def sigma_dot(self, t: Tensor) -> Tensor:
        return ANGLE * self.alpha(t)

    def log_snr(self, t: Tensor) -> Tensor:
        return torch.log(self.alpha(t)) - torch.log(self.sigma(t))

    def log_snr_dot(self, t: Tensor) -> Tensor:
        return -ANGLE / (self.alpha(t) * self.sigma(t))

    def time_of_log_snr(self, log_snr: Tensor) -> Tensor:
        return torch.atan(torch.exp(-log_snr)) / ANGLE
