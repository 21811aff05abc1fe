"""What a network is."""

import abc
from collections.abc import Mapping
from typing import final

from torch import Tensor, nn

from ode_runner.batch import TaskSpec
from ode_runner.field import VectorField
from ode_runner.types import State


class Block(nn.Module, abc.ABC):
    """A residual block: a map from states to states, its skip connection included."""

    @abc.abstractmethod
    def forward(self, y: State, dt: float) -> State:
        """The state `dt` later; where depth has no clock, a block takes one unit of time."""


class Network(abc.ABC):
    """Makes the pieces a model composes: stem, field or residual block, head.

    The state's first axis after the batch, features or channels, is the one that `extra` enlarges.
    """

    spec: TaskSpec
    state: int  # features or channels of it
    state_is_data: bool = False  # states are the task's own, not features of them
    takes_blanks: bool = False  # inputs may lack numbers: NaN stands in their places
    takes_tokens: bool = False  # inputs may be whole numbers, each one of several symbols
    of_images: bool = False  # True: inputs must be images (channels, height, width)
    of_series: bool = False  # True: inputs must be series, rows of observations with their times
    state_is_input: bool = False  # the stem leaves inputs as they are, but for their shape

    def idle_options(self) -> Mapping[str, str]:
        """The options that nothing reads for this task, each with the reason, in a clause."""
        return {}

    @abc.abstractmethod
    def stem(self) -> nn.Module:
        """From inputs to the initial state, or to an Encoding of it."""

    @abc.abstractmethod
    def field(self, *, extra: int = 0, given: int = 0) -> VectorField:
        """The right-hand side on the state enlarged by `extra`.

        With `given` it is a field f(t, y, z), where z has as many features or channels and otherwise the shape of `y`,
        or is a vector of so many numbers for each sample.
        """

    @abc.abstractmethod
    def block(self) -> Block:
        """One residual block."""

    @abc.abstractmethod
    def head(self, *, extra: int = 0) -> nn.Module:
        """From a state, enlarged by `extra`, to outputs."""


@final
class Coordinates(nn.Module):
    """The first `count` coordinates of a state: all the head there is where the state is the data."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, y: State) -> Tensor:
        return y[..., : self.count]
