"""The task's true field: nothing to learn, everything to see of the solver."""

from typing import ClassVar, final

from torch import nn

from ode_runner.encoding import Encoding
from ode_runner.errors import IncompatibleChoice
from ode_runner.field import VectorField
from ode_runner.models.base import Model, Numerics
from ode_runner.networks.base import Network
from ode_runner.problem import Integrate, Solution
from ode_runner.types import Times


@final
class Exact(Model):
    """Solves the true field from the true initial states, so that every error is the solver's."""

    numerics: ClassVar[Numerics] = Numerics.SOLVER

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        if network.spec.field is None:
            raise IncompatibleChoice(
                "model=exact needs a task whose true field is known. "
                "Use task=lotka_volterra, pendulum or linear, or model=odenet."
            )
        self.stem = self.head = nn.Identity()
        self.field = network.spec.field

    def evolve(self, y0: Encoding, ts: Times, integrate: Integrate) -> Solution:
        return integrate(self.field, y0, ts)

    def learned_field(self) -> VectorField:
        return self.field
