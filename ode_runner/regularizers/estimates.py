"""Prices on the Jacobian that are estimated by one product with noise."""

import abc

import torch
from torch import Tensor

from ode_runner.integral import Integral, Law, Pull, probe
from ode_runner.noise.brownian_path import BrownianPath, Noise
from ode_runner.regularizers.base import PathRegularizer
from ode_runner.types import State, Time

PATH = BrownianPath(seed=0, cells=1, depth=0)  # of which the uniform numbers of samples are taken, and no increment


class EstimatedRegularizer(PathRegularizer):
    """A price of e^T df/dy, whose squares sum to |df/dy|^2, that of all elements, in the mean over noise e.

    `noise` is the law of e: random signs (rademacher) or normal numbers. It is drawn once a solve, so that the
    integrand is a function; outside training by the numbers of the samples, so that a price that is reported depends on
    weights and data alone, and not on the batch in which a sample is.
    """

    def __init__(self, *, weight: float, noise: Law) -> None:
        super().__init__(weight=weight)
        self.noise: Law = noise

    def integral(self, y0: State, *, training: bool) -> Integral:
        del training
        return Integral(self.price, judged=False, given=(probe(y0, self.noise),))

    def reported(self, y0: State, numbers: Tensor | None) -> Integral:
        """For a solve outside training of samples of these numbers (batch,), None being their places."""
        numbers = torch.arange(len(y0), device=y0.device) if numbers is None else numbers
        noise = Noise(path=PATH, samples=numbers).copies(max(1, len(y0) // len(numbers)))
        uniform = noise.uniform(torch.zeros((), device=numbers.device), 0, y0.shape[1:])
        e = torch.special.ndtri(uniform) if self.noise == "normal" else torch.where(uniform < 0.5, -1.0, 1.0)
        return Integral(self.price, judged=False, given=(e.to(y0),))

    @abc.abstractmethod
    def price(self, t: Time, y: State, dy: State, pull: Pull, *given: Tensor) -> Tensor:
        """The price of every sample, (batch,); the last of what is given is the noise."""
