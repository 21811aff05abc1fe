"""The base class of flows with finitely many layers."""

import math
from collections.abc import Iterable, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from ode_runner.batch import Answer, Drawn
from ode_runner.encoding import Encoding
from ode_runner.errors import IncompatibleChoice
from ode_runner.models.base import Numerics
from ode_runner.models.density import DensityModel, base_samples, encode_data, normal_log_density
from ode_runner.models.flows.flow_layers import Chain, FlowLayer
from ode_runner.networks.base import Network
from ode_runner.problem import Integrate, Solution
from ode_runner.types import Times


class DiscreteFlow(DensityModel):
    """Maps data by invertible layers to a standard normal: log p(x) = log N(z) + log |det dz/dx|.

    There is no solve, and the network's layers are not used: solver, gradient mode and network are `-`. If the data
    have a condition, every layer receives it.
    """

    numerics: ClassVar[Numerics] = Numerics.NONE
    uses_network: ClassVar[bool] = False
    gives: ClassVar[frozenset[Answer]] = frozenset({Answer.LOG_DENSITY, Answer.SAMPLES})
    initialised_by_data: ClassVar[bool] = True
    untimed: ClassVar[str] = "has layers and no time between them"

    def __init__(self, network: Network, layers: Iterable[FlowLayer]) -> None:
        super().__init__(network)
        self.stem, self.head = nn.Identity(), nn.Identity()  # states are the data, of any shape
        self.spec, self.chain = network.spec, Chain(layers)

    def encode(self, inputs: Tensor) -> Encoding:
        """The data, with their condition, if there is one, as given."""
        return encode_data(self.stem, inputs, self.spec)

    def evolve(self, y0: Encoding, ts: Times, integrate: Integrate) -> Solution:
        """The states before the first layer and after each layer; `ts` is ignored."""
        del ts, integrate
        return Solution(ys=torch.stack([stage.state for stage in self.chain.stages(y0.y0, y0.given)]))

    def decode(self, encoding: Encoding, ts: Times, integrate: Integrate) -> Tensor:
        """The log density of data, (batch,)."""
        del ts, integrate
        z, log_det = self.chain(encoding.y0, encoding.given)
        return normal_log_density(z) + log_det

    def sample(self, count: int, ts: Times, integrate: Integrate, *, given: Sequence[Tensor] = ()) -> Drawn:
        """See `DensityModel`; the state at a time in between is that after the same fraction of the layers."""
        del integrate
        z = base_samples(count, self.spec.input_shape, ts)
        stages = list(self.chain.stages_back(z, given))
        shown = torch.linspace(0, len(stages) - 1, len(ts)).round().int().tolist()
        path = torch.stack([stages[i].state for i in shown])
        return Drawn(path, normal_log_density(z) - stages[-1].log_det)

    @torch.no_grad()
    def initialise(self, inputs: Tensor) -> None:
        encoding = self.encode(inputs)
        self.chain.initialise(encoding.y0, encoding.given)


def vector_size(network: Network) -> int:
    """The number of elements of a sample, for layers that act on vectors.

    Raises:
        IncompatibleChoice: a sample has one element only, which cannot be split.
    """
    size = math.prod(network.spec.input_shape)
    if size < 2:
        raise IncompatibleChoice(
            "layers that change some numbers of a sample by others need two numbers or more, and this task has one. "
            "Use model=cnf, flow_matching or residual_flow."
        )
    return size
