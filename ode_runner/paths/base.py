"""The base class of Gaussian probability paths."""

import abc
from typing import ClassVar

import torch
from torch import Tensor

KARRAS = 7  # noise levels are evenly spaced in (sigma / alpha)^(1 / KARRAS): Karras et al. 2022, equation 5
END_TIME = 1e-3  # end of sampling on a path whose velocity is singular at the data


class GaussianPath(abc.ABC):
    """x_t = alpha(t) x_0 + sigma(t) e with e ~ N(0, I): the data at t = 0, noise at t = 1.

    Times and values are tensors of any shape. Let F = alpha'/alpha and g^2 = 2 sigma^2 (sigma'/sigma - alpha'/alpha).
    The velocity is dx/dt = alpha' E[x_0 | x_t] + sigma' E[e | x_t] = F x - g^2/2 score. Solved from t = 1 to 0 it
    samples, from 0 to 1 it encodes.

    Song, Sohl-Dickstein, Kingma, Kumar, Ermon, Poole. Score-Based Generative Modeling through SDEs. ICLR 2021. ·
    Kingma, Salimans, Poole, Ho. Variational Diffusion Models. NeurIPS 2021, for alpha, sigma and the log-SNR. ·
    Lipman, Chen, Ben-Hamu, Nickel, Le. Flow Matching. ICLR 2023.
    """

    name: ClassVar[str] = "of one's own"  # the name in options and messages
    end_time: ClassVar[float] = END_TIME  # default end of sampling

    @property
    def noise_std(self) -> float:
        """Standard deviation of the normal distribution at t = 1, from which sampling begins."""
        return 1.0

    def std_at(self, start: float) -> float:
        """Standard deviation of the normal distribution from which sampling begins at `start`.

        Below 1 it is that of x_t for data of unit variance, whose distribution is then normal by approximation only.
        """
        t = torch.tensor(start, dtype=torch.float64)
        return self.noise_std if start >= 1 else float(torch.hypot(self.alpha(t), self.sigma(t)))

    @abc.abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """alpha(t), which multiplies the data."""

    @abc.abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """sigma(t), which multiplies the noise."""

    @abc.abstractmethod
    def alpha_dot(self, t: Tensor) -> Tensor:
        """d alpha / dt."""

    @abc.abstractmethod
    def sigma_dot(self, t: Tensor) -> Tensor:
        """d sigma / dt."""

    @abc.abstractmethod
    def log_snr(self, t: Tensor) -> Tensor:
        """log(alpha / sigma), half the logarithm of the signal-to-noise ratio; it falls with t.

        Infinite where alpha or sigma is 0.
        """

    @abc.abstractmethod
    def log_snr_dot(self, t: Tensor) -> Tensor:
        """d log_snr / dt, below 0."""

    @abc.abstractmethod
    def time_of_log_snr(self, log_snr: Tensor) -> Tensor:
        """The inverse of `log_snr`."""

    def rho(self, t: Tensor) -> Tensor:
        """sigma / alpha, the noise level of x / alpha."""
        return torch.exp(-self.log_snr(t))

    def time_of_rho(self, rho: Tensor) -> Tensor:
        """The inverse of `rho`."""
        return self.time_of_log_snr(-torch.log(rho))

    def drift_rate(self, t: Tensor) -> Tensor:
        """F in the forward equation dx = F x dt + g dW."""
        return self.alpha_dot(t) / self.alpha(t)

    def squared_diffusion(self, t: Tensor) -> Tensor:
        """g^2 in the forward equation dx = F x dt + g dW."""
        return -2 * self.sigma(t).square() * self.log_snr_dot(t)

    def noised(self, t: Tensor, x0: Tensor, noise: Tensor) -> Tensor:
        """x_t from data and noise; `t` broadcasts against them."""
        return self.alpha(t) * x0 + self.sigma(t) * noise

    def velocity(self, t: Tensor, x0: Tensor, noise: Tensor) -> Tensor:
        """dx_t / dt from data and noise; `t` broadcasts against them."""
        return self.alpha_dot(t) * x0 + self.sigma_dot(t) * noise
