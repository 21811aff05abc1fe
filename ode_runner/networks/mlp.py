"""Fully connected layers."""

from typing import final

from ode_runner.batch import TaskSpec
from ode_runner.field import VectorField
from ode_runner.networks.base import Block
from ode_runner.networks.dense import MLPField, ResidualMLP
from ode_runner.networks.sizes import check_sizes
from ode_runner.networks.vector import VectorNetwork, layer_sizes


@final
class MLP(VectorNetwork):
    """`depth` hidden layers of `width` tanh units in the field.

    Inputs of at most `width` numbers are the state themselves, so that a flow in the plane can be drawn;
    larger ones are brought down to `width` by a linear stem. Where the outputs are such a state at every time, the
    head is the state itself. The field of an autonomous task is not told the time.
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
