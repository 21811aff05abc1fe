"""The embedding of the time that networks receive."""

import math
from typing import final

import torch
from torch import Tensor, nn

from ode_runner.types import Time

WAVES = 8  # number of frequencies, in ratios of the square root of 2
LONGEST = 4.0  # period of the first: four times the span [0, 1]


@final
class TimeFeatures(nn.Module):
    """`features` numbers for a time: two layers over sines and cosines of several frequencies.

    Ho, Jain, Abbeel. Denoising Diffusion Probabilistic Models. NeurIPS 2020, appendix B: sines of times.
    """

    frequencies: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        frequencies = 2 * math.pi / LONGEST * 2 ** (torch.arange(WAVES) / 2)
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.layers = nn.Sequential(nn.Linear(2 * WAVES, features), nn.SiLU(), nn.Linear(features, features), nn.SiLU())

    def forward(self, t: Time) -> Tensor:
        """(batch, features) for times of each sample, (1, features) for a common time."""
        angles = t.to(self.frequencies.dtype).reshape(-1, 1) * self.frequencies
        return self.layers(torch.cat([angles.cos(), angles.sin()], dim=1))
