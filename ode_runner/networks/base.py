"""What a network is."""

import abc

from torch import nn

from ode_runner.field import VectorField


class Network(abc.ABC):
    """Makes the pieces a model composes: stem, field or residual block, head.

    The state's first axis after the batch, features or channels, is the one that `extra` enlarges.
    """

    @abc.abstractmethod
    def stem(self) -> nn.Module:
        """From inputs to the initial state."""

    @abc.abstractmethod
    def field(self, *, extra: int = 0) -> VectorField:
        """The right-hand side on the state enlarged by `extra`."""

    @abc.abstractmethod
    def block(self) -> nn.Module:
        """A residual block: a map from states to states, its skip connection included."""

    @abc.abstractmethod
    def head(self, *, extra: int = 0) -> nn.Module:
        """From the last state, enlarged by `extra`, to outputs."""
