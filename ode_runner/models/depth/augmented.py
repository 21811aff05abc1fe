"""An augmented ODE-Net."""

from typing import ClassVar, final

import torch

from ode_runner.encoding import Encoding
from ode_runner.errors import RefusedInput
from ode_runner.models.base import Model, Numerics
from ode_runner.networks.base import Network
from ode_runner.networks.sizes import check_sizes
from ode_runner.problem import Integrate, Solution
from ode_runner.types import Times


@final
class Augmented(Model):
    """An ODE-Net on a state with `extra` more dimensions or channels, which start at zero.

    Trajectories that would have to cross in the original state space can avoid each other in the larger one.

    Dupont, Doucet, Teh. Augmented Neural ODEs. NeurIPS 2019.
    """

    numerics: ClassVar[Numerics] = Numerics.ANY

    def __init__(self, network: Network, *, extra: int) -> None:
        super().__init__(network)
        if extra < 1:
            raise RefusedInput(f"model.extra must be at least 1, not {extra}. Without extra dimensions: model=odenet.")
        check_sizes("model", extra=extra)
        self.extra = extra
        self.field = network.field(extra=extra)
        self.head = network.head(extra=extra)

    def evolve(self, y0: Encoding, ts: Times, integrate: Integrate) -> Solution:
        state = y0.y0
        zeros = state.new_zeros(state.shape[0], self.extra, *state.shape[2:])
        return integrate(self.field, y0._replace(y0=torch.cat([state, zeros], dim=1)), ts)
