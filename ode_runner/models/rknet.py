"""An RK-Net: an ODE-Net that is its own discretisation."""

from typing import ClassVar, final

from torch import Tensor

from ode_runner.models.base import Integrate, Model, Numerics
from ode_runner.networks.base import Network
from ode_runner.types import Times, Trajectory


@final
class RKNet(Model):
    """One shared field advanced by a fixed number of explicit Runge-Kutta steps, with the exact gradient.

    A network of weight-tied layers: what it learns belongs to its solver, and need not be the flow of an ODE.

    Chen, Rubanova, Bettencourt, Duvenaud. Neural Ordinary Differential Equations. NeurIPS 2018, section 3.
    """

    numerics: ClassVar[Numerics] = Numerics.DISCRETE

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.stem = network.stem()
        self.field = network.field()
        self.head = network.head()

    def states(self, inputs: Tensor, ts: Times, integrate: Integrate) -> Trajectory:
        return integrate(self.field, self.stem(inputs), ts)
