"""The linear path of flow matching."""

from typing import ClassVar, final

import torch
from torch import Tensor

from ode_runner.paths.base import GaussianPath


@final
class Linear(GaussianPath):
    """alpha = 1 - t, sigma = t: the velocity is regular on all of [0, 1], and alpha is 0 at t = 1.

    Lipman, Chen, Ben-Hamu, Nickel, Le. Flow Matching. ICLR 2023. · Liu, Gong, Liu. Rectified Flow. ICLR 2023. In both
    papers time runs the other way, from noise at 0 to data at 1.
    """

    name: ClassVar[str] = "linear"
    end_time: ClassVar[float] = 0.0

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - t

    def sigma(self, t: Tensor) -> Tensor:
        return t

    def alpha_dot(self, t: Tensor) -> Tensor:
        return -torch.ones_like(t)

    def sigma_dot(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def noised(self, t: Tensor, x0: Tensor, noise: Tensor) -> Tensor:
        return torch.lerp(x0, noise, t)

    def velocity(self, t: Tensor, x0: Tensor, noise: Tensor) -> Tensor:
        del t
        return noise - x0

    def log_snr(self, t: Tensor) -> Tensor:
        return torch.log1p(-t) - torch.log(t)

    def log_snr_dot(self, t: Tensor) -> Tensor:
        return -1 / (t * (1 - t))

    def time_of_log_snr(self, log_snr: Tensor) -> Tensor:
        return torch.sigmoid(-log_snr)
