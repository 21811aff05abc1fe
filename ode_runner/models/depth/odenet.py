"""An ODE-Net: depth in time."""

from typing import ClassVar, final

from ode_runner.encoding import Encoding
from ode_runner.field import VectorField
from ode_runner.models.base import Model, Numerics
from ode_runner.networks.base import Network
from ode_runner.problem import Integrate, Solution
from ode_runner.types import Times


@final
class ODENet(Model):
    """One field, integrated over the task's time span by any solver and differentiated by any gradient mode.

    Chen, Rubanova, Bettencourt, Duvenaud. Neural Ordinary Differential Equations. NeurIPS 2018, section 3.
    """

    numerics: ClassVar[Numerics] = Numerics.ANY

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.field = network.field()
        self.head = network.head()
        self.state_is_data = network.state_is_data

    def evolve(self, y0: Encoding, ts: Times, integrate: Integrate) -> Solution:
        return integrate(self.field, y0, ts)

    def learned_field(self) -> VectorField | None:
        return self.field if self.state_is_data else None
