"""An ODE-Net: depth in time."""

from typing import ClassVar, final

from torch import Tensor

from ode_runner.models.base import Integrate, Model, Numerics
from ode_runner.networks.base import Network
from ode_runner.types import Times, Trajectory


@final
class ODENet(Model):
    """One shared field, integrated over the task's time span by any solver, differentiated in any mode.

    Chen, Rubanova, Bettencourt, Duvenaud. Neural Ordinary Differential Equations. NeurIPS 2018, section 3.
    """

    numerics: ClassVar[Numerics] = Numerics.ANY

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.stem = network.stem()
        self.field = network.field()
        self.head = network.head()

    def states(self, inputs: Tensor, ts: Times, integrate: Integrate) -> Trajectory:
        return integrate(self.field, self.stem(inputs), ts)
