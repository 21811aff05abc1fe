"""The interface of a network."""

import abc
from collections.abc import Mapping
from typing import final

from torch import Tensor, nn

from ode_runner.batch import TaskSpec
from ode_runner.field import VectorField
from ode_runner.types import State


class Block(nn.Module, abc.ABC):
    """A residual block: a map from states to states that includes its skip connection."""

    @abc.abstractmethod
    def forward(self, y: State, dt: float) -> State:
        """The state `dt` later; a model without a time variable passes dt = 1."""


class Network(abc.ABC):
    """Makes the parts of which a model is composed: stem, field or residual block, head.

    `extra` enlarges the state along its first axis after the batch (features or channels).
    """

    spec: TaskSpec
    state: int  # features or channels of the state
    state_is_data: bool = False  # states are the task's own, rather than learned features of them
    takes_blanks: bool = False  # inputs may have missing numbers (NaN)
    takes_tokens: bool = False  # inputs may be tokens (integers)
    of_images: bool = False  # True: inputs must be images (channels, height, width)
    of_series: bool = False  # True: inputs must be series, rows of observations with their times
    state_is_input: bool = False  # the stem does not change inputs, except for their shape

    def unused_options(self) -> Mapping[str, str]:
        """The options that have no effect for this task, each with the reason as a clause."""
        return {}

    @abc.abstractmethod
    def stem(self) -> nn.Module:
        """Maps inputs to the initial state, or to an Encoding of it."""

    @abc.abstractmethod
    def field(self, *, extra: int = 0, given: int = 0) -> VectorField:
        """The right-hand side for a state enlarged by `extra`.

        With `given`, it is a field f(t, y, z), where z has `given` features or channels and otherwise the shape of `y`,
        or is a vector (batch, given).
        """

    @abc.abstractmethod
    def block(self) -> Block:
        """A residual block."""

    @abc.abstractmethod
    def head(self, *, extra: int = 0) -> nn.Module:
        """Maps a state, enlarged by `extra`, to outputs."""


@final
class Coordinates(nn.Module):
    """The first `count` coordinates of a state: the whole head if the state is the data."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, y: State) -> Tensor:
        return y[..., : self.count]
