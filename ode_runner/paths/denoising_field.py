"""Fields of Gaussian paths between data and noise, defined by a denoiser, E[x_0 | x_t]."""

import abc
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from ode_runner.field import NoiseDrivenField, StochasticField, broadcast_time
from ode_runner.noise.brownian_path import NoiseKind
from ode_runner.paths.base import GaussianPath
from ode_runner.paths.heads import Head, to_velocity
from ode_runner.types import State, Time


class DenoisingField(StochasticField):
    """The field of a Gaussian path, defined by its denoiser, from which velocity and score follow.

    For a solver of ordinary equations it is the velocity, from noise at t = 1 to data at t = 0. For a stochastic solver
    it is the reverse equation dx = (F x - g^2 score) dt + g dW, whose solution from 1 to 0 has the same distribution at
    every time. The diffusion depends on the path alone and costs no evaluation.

    Song et al. Score-Based Generative Modeling through SDEs. ICLR 2021.
    """

    call_weights: ClassVar[Mapping[str, float]] = {"forward": 1, "denoise": 1, "drift": 1, "diffusion": 0}
    slopes: ClassVar[frozenset[str]] = frozenset({"forward", "denoise", "drift"})
    noise_kind = NoiseKind.ADDITIVE
    path: GaussianPath
    span: tuple[float, float] = (0.0, 1.0)  # first and last time at which it is the field, known or learned

    @abc.abstractmethod
    def denoise(self, t: Time, x: State, *given: Tensor) -> State:
        """E[x_0 | x_t = x], in the shape of `x`."""

    def forward(self, t: Time, y: State, *given: Tensor) -> State:
        return to_velocity(self.path, Head.X0, broadcast_time(t, y), y, self.denoise(t, y, *given))

    def drift(self, t: Time, y: State, *given: Tensor) -> State:
        time, denoised = broadcast_time(t, y), self.denoise(t, y, *given)
        score = (self.path.alpha(time) * denoised - y) / self.path.sigma(time).square()
        return self.path.drift_rate(time) * y - self.path.squared_diffusion(time) * score

    def diffusion(self, t: Time, y: State, *given: Tensor) -> Tensor:
        del given
        return self.path.squared_diffusion(broadcast_time(t, y)).sqrt() * torch.ones_like(y)


class ConsistencyField(NoiseDrivenField):
    """A consistency function: it maps a state of a Gaussian path, at any time, to the data; it has no derivative."""

    call_weights: ClassVar[Mapping[str, float]] = {"jump": 1}
    path: GaussianPath

    @abc.abstractmethod
    def jump(self, t: Time, x: State, *given: Tensor) -> State:
        """The end, at the data, of the solution through `x` at time `t`, in the shape of `x`."""

    def forward(self, t: Time, y: State) -> State:
        raise NotImplementedError("a consistency function takes noise to data, and has no derivative")


class KnownDistribution(DenoisingField):
    """The true field between noise and a distribution whose density is known."""

    @abc.abstractmethod
    def log_density(self, x: State, *given: Tensor) -> Tensor:
        """log p of data, (batch,), nats; log p(x | condition) if a condition is given."""

    @abc.abstractmethod
    def along(self, path: GaussianPath) -> "KnownDistribution":
        """The field of the same distribution along another path."""
