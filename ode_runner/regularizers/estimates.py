"""Penalties on the Jacobian, estimated by one vector-Jacobian product with noise (Hutchinson's estimator)."""

import abc

import torch
from torch import Tensor

from ode_runner.integral import VJP, Integral, NoiseDistribution, probe
from ode_runner.noise.brownian_path import BrownianPath, Noise
from ode_runner.regularizers.base import PathRegularizer
from ode_runner.types import State, Time

PATH = BrownianPath(seed=0, cells=1, depth=0)  # only its uniform numbers per sample are used, no increments


class EstimatedRegularizer(PathRegularizer):
    """A penalty on e^T df/dy, whose squared norm has the expectation |df/dy|^2 (Frobenius) over noise e.

    `noise` is the distribution of e: random signs (rademacher) or normal. It is drawn once per solve, so that the
    integrand is a function. Outside training it is determined by the numbers of the samples, so that a reported penalty
    depends only on weights and data, not on the batch that contains a sample.
    """

    def __init__(self, *, weight: float, noise: NoiseDistribution) -> None:
        super().__init__(weight=weight)
        self.noise: NoiseDistribution = noise

    def integral(self, y0: State, *, training: bool) -> Integral:
        del training
        return Integral(self.integrand, judged=False, given=(probe(y0, self.noise),))

    def reported(self, y0: State, numbers: Tensor | None) -> Integral:
        """The integral for a solve outside training, of samples with these numbers (batch,); None: their positions."""
        numbers = torch.arange(len(y0), device=y0.device) if numbers is None else numbers
        noise = Noise(path=PATH, samples=numbers).copies(max(1, len(y0) // len(numbers)))
        uniform = noise.uniform(torch.zeros((), device=numbers.device), 0, y0.shape[1:])
        e = torch.special.ndtri(uniform) if self.noise == "normal" else torch.where(uniform < 0.5, -1.0, 1.0)
        return Integral(self.integrand, judged=False, given=(e.to(y0),))

    @abc.abstractmethod
    def integrand(self, t: Time, y: State, dy: State, vjp: VJP, *given: Tensor) -> Tensor:
        """The penalty of each sample, (batch,); the last of `given` is the noise."""
