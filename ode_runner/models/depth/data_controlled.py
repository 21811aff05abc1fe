"""An ODE-Net whose field is given the initial state."""

from typing import ClassVar, final

from ode_runner.encoding import Encoding
from ode_runner.errors import RefusedInput
from ode_runner.models.base import Model, Numerics
from ode_runner.networks.base import Network
from ode_runner.networks.channels import ChannelMap
from ode_runner.networks.sizes import check_sizes
from ode_runner.problem import Integrate, Solution
from ode_runner.types import Times


@final
class DataControlled(Model):
    """dy/dt = f(t, y, c), where c is the sample's initial state, or `control` affine features of it.

    Trajectories with different c may cross. The head reads y only.

    Massaroli, Poli, Park, Yamashita, Asama. Dissecting Neural ODEs. NeurIPS 2020.
    """

    numerics: ClassVar[Numerics] = Numerics.ANY

    def __init__(self, network: Network, *, control: int | None) -> None:
        super().__init__(network)
        if control is not None and control < 1:
            raise RefusedInput(f"model.control must be at least 1, not {control}; null takes the initial state itself.")
        check_sizes("model", control=control or 1)
        self.field = network.field(given=control or network.state)
        self.head = network.head()
        self.features = ChannelMap(network.state, control) if control else None

    def evolve(self, y0: Encoding, ts: Times, integrate: Integrate) -> Solution:
        control = self.features(y0.y0) if self.features else y0.y0
        return integrate(self.field, y0._replace(given=(*y0.given, control)), ts)
