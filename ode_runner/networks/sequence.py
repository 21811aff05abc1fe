"""Networks whose hidden state is driven by a series of observations."""

from typing import final

from torch import nn

from ode_runner.batch import TaskSpec
from ode_runner.field import VectorField
from ode_runner.networks.base import Block
from ode_runner.networks.dense import BoundedField, MLPField, ResidualMLP
from ode_runner.networks.reading import ReadingNetwork, SeriesReader, remember
from ode_runner.networks.recognition import observed_channels
from ode_runner.networks.sizes import check_sizes
from ode_runner.networks.vector import layer_sizes


@final
class SequenceNetwork(ReadingNetwork):
    """A state of `hidden` numbers, and fields of `depth` hidden layers of `width` units, which do not receive the time.

    The stem is a GRU over the rows: models not made for series continue from its last state. Models of series use the
    other parts: `matrix_field`, `cell` and `flow`.
    """

    def __init__(self, spec: TaskSpec, *, hidden: int, width: int, depth: int) -> None:
        check_sizes("network", hidden=hidden, width=width, depth=depth)
        self.spec = spec
        self.channels, self.rows = observed_channels(spec), spec.input_shape[0]
        self.outputs, self.state, self.width, self.depth = spec.output_shape[0], hidden, width, depth

    def stem(self) -> SeriesReader:
        return SeriesReader(channels=self.channels, hidden=self.state, rows=self.rows)

    def field(self, *, extra: int = 0, given: int = 0) -> VectorField:
        sizes = layer_sizes(self.state + extra, width=self.width, depth=self.depth)
        return MLPField(sizes, time=False, given=given)

    def block(self) -> Block:
        return ResidualMLP(layer_sizes(self.state, width=self.width, depth=self.depth))

    def head(self, *, extra: int = 0) -> nn.Module:
        return nn.Linear(self.state + extra, self.outputs)

    def initial(self, channels: int) -> nn.Module:
        return nn.Linear(channels, self.state)

    def matrix_field(self, channels: int) -> nn.Module:
        """ReLU between layers, tanh after the last: without this bound a state may diverge (Kidger et al. 2020)."""
        layers: list[nn.Module] = []
        inputs = self.state
        for _ in range(self.depth):
            layers += [nn.Linear(inputs, self.width), nn.ReLU()]
            inputs = self.width
        last = nn.Linear(inputs, self.state * channels)
        return nn.Sequential(*layers, last, nn.Tanh(), nn.Unflatten(1, (self.state, channels)))

    def cell(self) -> nn.GRUCell:
        cell = nn.GRUCell(2 * self.channels + 1, self.state)
        remember(cell.bias_ih, cell.bias_hh, rows=self.rows)
        return cell

    def flow(self) -> VectorField:
        inner = MLPField(layer_sizes(self.state, width=self.width, depth=self.depth), time=False)
        for parameter in inner.layers[-1].parameters():
            nn.init.zeros_(parameter)
        return BoundedField(inner)
