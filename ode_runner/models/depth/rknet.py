"""An RK-Net: an ODE-Net that is its own discretisation."""

from typing import ClassVar, final

from ode_runner.encoding import Encoding
from ode_runner.models.base import Model, Numerics
from ode_runner.networks.base import Network
from ode_runner.problem import Integrate, Solution
from ode_runner.types import Times


@final
class RKNet(Model):
    """One shared field advanced by a fixed number of explicit Runge-Kutta steps, with the exact gradient.

    A network of weight-tied layers: what it learns belongs to its solver, and need not be the flow of an ODE.

    Chen, Rubanova, Bettencourt, Duvenaud. Neural Ordinary Differential Equations. NeurIPS 2018, section 3.
    """

    numerics: ClassVar[Numerics] = Numerics.DISCRETE

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.field = network.field()
        self.head = network.head()

    def evolve(self, y0: Encoding, ts: Times, integrate: Integrate) -> Solution:
        return integrate(self.field, y0, ts)
