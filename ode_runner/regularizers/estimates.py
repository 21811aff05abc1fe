"""Prices on the Jacobian that are estimated by one product with noise."""

import abc

import torch
from torch import Tensor

from ode_runner.integral import Integral, Law, Pull, probe
from ode_runner.regularizers.base import PathRegularizer
from ode_runner.types import State, Time


class EstimatedRegularizer(PathRegularizer):
    """A price of e^T df/dy, whose squares sum to |df/dy|^2, that of all elements, in the mean over noise e.

    `noise` is the law of e: random signs (rademacher) or normal numbers. It is drawn once a solve, so that the
    integrand is a function; outside training always the same, so that a number that is reported depends on weights and
    data alone.
    """

    def __init__(self, *, weight: float, noise: Law) -> None:
        super().__init__(weight=weight)
        self.noise: Law = noise

    def integral(self, y0: State, *, training: bool) -> Integral:
        generator = None if training else torch.Generator().manual_seed(0)
        return Integral(self.price, judged=False, given=(probe(y0, self.noise, generator),))

    @abc.abstractmethod
    def price(self, t: Time, y: State, dy: State, pull: Pull, *given: Tensor) -> Tensor:
        """Of every sample, (batch,), where the last given is the noise."""
