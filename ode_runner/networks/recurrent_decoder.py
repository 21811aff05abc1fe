"""A variational autoencoder whose latent state is advanced by a recurrent cell: the baseline of the latent ODE."""

from typing import final

from torch import nn

from ode_runner.batch import TaskSpec
from ode_runner.errors import IncompatibleChoice
from ode_runner.field import VectorField
from ode_runner.networks.base import Block, Network
from ode_runner.networks.recognition import Decoder, Recognition, observed_coordinates
from ode_runner.networks.sizes import check_sizes
from ode_runner.types import State


@final
class RecurrentDecoder(Network):
    """A recognition GRU of `hidden` units; between output times, the latent state passes through a GRU cell.

    There is no field, so that only models of residual blocks can use it.

    Cho et al. Learning Phrase Representations using RNN Encoder-Decoder. EMNLP 2014.
    """

    takes_blanks = True
    of_series = True

    def __init__(self, spec: TaskSpec, *, hidden: int, latent: int, width: int, samples: int) -> None:
        check_sizes("network", hidden=hidden, latent=latent, width=width, samples=samples)
        self.spec = spec
        self.coordinates = observed_coordinates(spec, "recurrent_decoder")
        self.hidden, self.latent, self.width, self.samples = hidden, latent, width, samples
        self.state = latent

    def stem(self) -> nn.Module:
        sizes = {"coordinates": self.coordinates, "hidden": self.hidden, "latent": self.latent, "samples": self.samples}
        return Recognition(**sizes, blanks=self.spec.blanks)

    def field(self, *, extra: int = 0, given: int = 0) -> VectorField:
        raise IncompatibleChoice(
            "network=recurrent_decoder moves from time to time by a recurrent cell and has no field to integrate. "
            "Use model=resnet model.blocks=1 with it, or network=recurrent_vae."
        )

    def block(self) -> Block:
        return RecurrentBlock(self.latent)

    def head(self, *, extra: int = 0) -> nn.Module:
        return Decoder(latent=self.latent + extra, width=self.width, coordinates=self.coordinates)


@final
class RecurrentBlock(Block):
    """One step of a GRU cell whose input is the elapsed time.

    Cho et al. Learning Phrase Representations using RNN Encoder-Decoder. EMNLP 2014.
    """

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.cell = nn.GRUCell(1, latent)

    def forward(self, y: State, dt: float) -> State:
        return self.cell(y.new_full((y.shape[0], 1), dt), y)
