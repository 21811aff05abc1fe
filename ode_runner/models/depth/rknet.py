"""An RK-Net: a fixed discretisation of an ODE-Net."""

from typing import ClassVar, final

from ode_runner.encoding import Encoding
from ode_runner.models.base import Model, Numerics
from ode_runner.networks.base import Network
from ode_runner.problem import Integrate, Solution
from ode_runner.types import Times


@final
class RKNet(Model):
    """One field, advanced by a fixed number of explicit Runge-Kutta steps, with the exact gradient.

    It is a network of weight-tied layers. The learned map belongs to its solver and need not be the flow of an ODE.

    Chen, Rubanova, Bettencourt, Duvenaud. Neural Ordinary Differential Equations. NeurIPS 2018, section 3.
    """

    numerics: ClassVar[Numerics] = Numerics.DISCRETE

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.field = network.field()
        self.head = network.head()

    def evolve(self, y0: Encoding, ts: Times, integrate: Integrate) -> Solution:
        return integrate(self.field, y0, ts)
