"""A variational autoencoder whose latent state is the solution of an ODE: the latent ODE."""

from typing import final

from torch import nn

from ode_runner.batch import TaskSpec
from ode_runner.field import VectorField
from ode_runner.networks.base import Block, Network
from ode_runner.networks.dense import MLPField, ResidualMLP
from ode_runner.networks.recognition import Decoder, Recognition, observed_coordinates
from ode_runner.networks.sizes import check_sizes


@final
class RecurrentVAE(Network):
    """A recognition GRU of `hidden` units, a field on `latent` dimensions, a decoder with a hidden layer of `width`.

    The field has `depth` hidden layers of `width` tanh units, and does not receive the time.

    Chen, Rubanova, Bettencourt, Duvenaud. Neural Ordinary Differential Equations. NeurIPS 2018, section 5.
    """

    takes_blanks = True
    of_series = True

    def __init__(self, spec: TaskSpec, *, hidden: int, latent: int, width: int, depth: int, samples: int) -> None:
        check_sizes("network", hidden=hidden, latent=latent, width=width, depth=depth, samples=samples)
        self.spec = spec
        self.coordinates = observed_coordinates(spec, "recurrent_vae")
        self.hidden, self.latent, self.width, self.depth, self.samples = hidden, latent, width, depth, samples
        self.state = latent

    def stem(self) -> nn.Module:
        sizes = {"coordinates": self.coordinates, "hidden": self.hidden, "latent": self.latent, "samples": self.samples}
        return Recognition(**sizes, blanks=self.spec.blanks)

    def field(self, *, extra: int = 0, given: int = 0) -> VectorField:
        state = self.latent + extra
        return MLPField([state, *[self.width] * self.depth, state], time=False, given=given)

    def block(self) -> Block:
        return ResidualMLP([self.latent, *[self.width] * self.depth, self.latent])

    def head(self, *, extra: int = 0) -> nn.Module:
        return Decoder(latent=self.latent + extra, width=self.width, coordinates=self.coordinates)
