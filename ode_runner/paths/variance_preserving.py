"""The paths of DDPM and of the sub-VP equation."""

import abc
from typing import ClassVar, final

import torch
from torch import Tensor

from ode_runner.paths.base import GaussianPath


class LinearSchedule(GaussianPath):
    """alpha = exp(-q), q = (beta_max - beta_min) t^2 / 4 + beta_min t / 2: beta is linear, alpha'/alpha = -beta/2.

    Args:
        beta_min: beta at t = 0.
        beta_max: beta at t = 1.

    Song et al. Score-Based Generative Modeling through SDEs. ICLR 2021, appendix C.
    """

    def __init__(self, *, beta_min: float, beta_max: float) -> None:
        self.beta_min, self.beta_max = beta_min, beta_max

    def beta(self, t: Tensor) -> Tensor:
        return self.beta_min + t * (self.beta_max - self.beta_min)

    def exponent(self, t: Tensor) -> Tensor:
        """The exponent q."""
        return t * (t * (self.beta_max - self.beta_min) / 4 + self.beta_min / 2)

    def alpha(self, t: Tensor) -> Tensor:
        return torch.exp(-self.exponent(t))

    def alpha_dot(self, t: Tensor) -> Tensor:
        return self.drift_rate(t) * self.alpha(t)

    def drift_rate(self, t: Tensor) -> Tensor:
        return -self.beta(t) / 2

    def log_snr(self, t: Tensor) -> Tensor:
        return -self.exponent(t) - torch.log(self.sigma(t))

    def time_of_log_snr(self, log_snr: Tensor) -> Tensor:
        q, slope = self._exponent_of_log_snr(log_snr), self.beta_max - self.beta_min
        return 4 * q / (self.beta_min + torch.sqrt(self.beta_min**2 + 4 * slope * q))

    @abc.abstractmethod
    def _exponent_of_log_snr(self, log_snr: Tensor) -> Tensor:
        """The exponent q as a function of log_snr."""


@final
class VariancePreserving(LinearSchedule):
    """sigma = sqrt(1 - alpha^2). sigma' is infinite at t = 0."""

    name: ClassVar[str] = "vp"

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sqrt(-torch.expm1(-2 * self.exponent(t)))

    def sigma_dot(self, t: Tensor) -> Tensor:
        return self.beta(t) * self.alpha(t).square() / (2 * self.sigma(t))

    def log_snr_dot(self, t: Tensor) -> Tensor:
        return -self.beta(t) / (2 * self.sigma(t).square())

    def _exponent_of_log_snr(self, log_snr: Tensor) -> Tensor:
        return torch.logaddexp(torch.zeros_like(log_snr), -2 * log_snr) / 2


@final
class SubVariancePreserving(LinearSchedule):
    """sigma = 1 - alpha^2."""

    name: ClassVar[str] = "subvp"

    def sigma(self, t: Tensor) -> Tensor:
        return -torch.expm1(-2 * self.exponent(t))

    def sigma_dot(self, t: Tensor) -> Tensor:
        return self.beta(t) * self.alpha(t).square()

    def log_snr_dot(self, t: Tensor) -> Tensor:
        squared = self.alpha(t).square()
        return -self.beta(t) * (1 + squared) / (2 * self.sigma(t))

    def _exponent_of_log_snr(self, log_snr: Tensor) -> Tensor:
        return torch.asinh(torch.exp(-log_snr) / 2)
