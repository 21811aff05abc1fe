"""An augmented ODE-Net whose extra dimensions are initialised by a learned map of the state."""

from typing import ClassVar, final

import torch

from ode_runner.encoding import Encoding
from ode_runner.errors import RefusedInput
from ode_runner.models.base import Model, Numerics
from ode_runner.networks.base import Network
from ode_runner.networks.channels import ChannelMap
from ode_runner.networks.sizes import check_sizes
from ode_runner.problem import Integrate, Solution
from ode_runner.types import Times


@final
class InputLayer(Model):
    """An ODE-Net on a state with `extra` more dimensions or channels, which start as an affine map of the others.

    Massaroli, Poli, Park, Yamashita, Asama. Dissecting Neural ODEs. NeurIPS 2020.
    """

    numerics: ClassVar[Numerics] = Numerics.ANY

    def __init__(self, network: Network, *, extra: int) -> None:
        super().__init__(network)
        if extra < 1:
            raise RefusedInput(f"model.extra must be at least 1, not {extra}. Without extra dimensions: model=odenet.")
        check_sizes("model", extra=extra)
        self.field = network.field(extra=extra)
        self.head = network.head(extra=extra)
        self.input_layer = ChannelMap(network.state, extra)

    def evolve(self, y0: Encoding, ts: Times, integrate: Integrate) -> Solution:
        state = torch.cat([y0.y0, self.input_layer(y0.y0)], dim=1)
        return integrate(self.field, y0._replace(y0=state), ts)
