"""A multilayer perceptron."""

from typing import final

from ode_runner.batch import TaskSpec
from ode_runner.field import VectorField
from ode_runner.networks.base import Block
from ode_runner.networks.dense import MLPField, ResidualMLP
from ode_runner.networks.sizes import check_sizes
from ode_runner.networks.vector import VectorNetwork, layer_sizes


@final
class MLP(VectorNetwork):
    """A field with `depth` hidden layers of `width` tanh units.

    Inputs of at most `width` numbers are the state itself, so that a flow in the plane can be drawn; larger ones are
    reduced to `width` by a linear stem. The head is the identity if outputs are such states at every time. The field of
    an autonomous task does not receive the time.
    """

    def __init__(self, spec: TaskSpec, *, width: int, depth: int) -> None:
        check_sizes("network", width=width, depth=depth)
        super().__init__(spec, largest=width)
        self.width, self.depth = width, depth

    def field(self, *, extra: int = 0, given: int = 0) -> VectorField:
        sizes = layer_sizes(self.state + extra, width=self.width, depth=self.depth)
        return MLPField(sizes, time=not self.spec.autonomous, given=given)

    def block(self) -> Block:
        return ResidualMLP(layer_sizes(self.state, width=self.width, depth=self.depth))
