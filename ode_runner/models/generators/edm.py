"""EDM: diffusion by a preconditioned denoiser, whose network has inputs and outputs of unit variance."""

from typing import final

import torch
from torch import Tensor

from ode_runner.errors import RefusedInput
from ode_runner.field import VectorField, WrappedField, broadcast_time
from ode_runner.models.generators.path_model import PathModel
from ode_runner.models.generators.predicted_field import PredictedField
from ode_runner.networks.base import Network
from ode_runner.paths.base import GaussianPath
from ode_runner.paths.heads import Head
from ode_runner.paths.named import path_named
from ode_runner.types import State, Time

ROUNDING = 1e-6  # bound of uniform numbers away from 0 and 1, before they become normal ones


@final
class Edm(PathModel):
    """Learns the denoiser of the path x = x_0 + rho e; in training, log rho is normally distributed.

    Args:
        log_mean: mean of log rho in training.
        log_std: its standard deviation.
        data_std: standard deviation of the data, per coordinate; None: that of the task.
        rho_max: noise level at which sampling begins.

    Karras, Aittala, Aila, Laine. Elucidating the Design Space of Diffusion-Based Generative Models. NeurIPS 2022,
    table 1.
    """

    def __init__(
        self,
        network: Network,
        *,
        log_mean: float,
        log_std: float,
        data_std: float | None,
        rho_max: float,
        guidance: float,
        hidden: float,
    ) -> None:
        for name, value in (("log_std", log_std), ("data_std", data_std), ("rho_max", rho_max)):
            if value is not None and not value > 0:
                raise RefusedInput(f"model.{name} must be above 0, not {value}.")
        path = path_named("ve", sigma_max=rho_max)
        super().__init__(network, guidance=guidance, hidden=hidden, start_time=1.0, end_time=path.end_time)
        of_std = "" if data_std is None else f", data_std={data_std:g}"
        self.regresses = f"the denoiser at log_mean={log_mean:g}, log_std={log_std:g}{of_std}"
        self.log_mean, self.log_std = log_mean, log_std
        self.data_std = network.spec.std if data_std is None else data_std
        scaled = Preconditioned(network.field(given=network.spec.condition), path=path, data_std=self.data_std)
        self.field = PredictedField(scaled, path=path, head=Head.X0)

    def times(self, uniform: Tensor) -> Tensor:
        """The times of random noise levels; some lie beyond the ends of the path, which is defined there, too."""
        normal = torch.special.ndtri(uniform.clamp(ROUNDING, 1 - ROUNDING))
        return self.field.path.time_of_log_snr(-(self.log_mean + self.log_std * normal))

    def target(self, t: Tensor, data: State, noise: State) -> State:
        del t, noise
        return data

    def weight(self, t: Tensor) -> Tensor:
        """The weight with which the squared error of the network's raw output has weight 1 at every level."""
        rho = self.field.path.rho(t)
        return (rho.square() + self.data_std**2) / (rho * self.data_std).square()


@final
class Preconditioned(WrappedField):
    """c_skip x + c_out f(log(rho) / 4, c_in x), so that inputs and targets of f have unit variance."""

    def __init__(self, inner: VectorField, *, path: GaussianPath, data_std: float) -> None:
        super().__init__(inner)
        self.path, self.data_std = path, data_std

    def forward(self, t: Time, y: State, *given: Tensor) -> State:
        rho = self.path.rho(broadcast_time(t, y))
        variance = rho.square() + self.data_std**2
        skip, out = self.data_std**2 / variance, rho * self.data_std / variance.sqrt()
        return skip * y + out * self.inner(-self.path.log_snr(t) / 4, y / variance.sqrt(), *given)
