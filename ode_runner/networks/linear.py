"""Nothing but a matrix."""

import math
from typing import final

import torch
from torch import Tensor, nn

from ode_runner.batch import TaskSpec
from ode_runner.field import VectorField
from ode_runner.networks.base import Block, Coordinates, Network
from ode_runner.networks.channels import with_given
from ode_runner.types import State, Time


@final
class Linear(Network):
    """The field y' = theta y on the inputs themselves.

    Where outputs are not such a state at every time, the head is an affine map of the last one.
    """

    state_is_input = True

    def __init__(self, spec: TaskSpec) -> None:
        self.spec = spec
        self.state, self.outputs = math.prod(spec.input_shape), math.prod(spec.output_shape)
        self.state_is_data = spec.every_time and spec.input_shape == spec.output_shape

    def stem(self) -> nn.Module:
        return nn.Flatten()

    def field(self, *, extra: int = 0, given: int = 0) -> VectorField:
        return LinearField(self.state + extra, given=given)

    def block(self) -> Block:
        return LinearBlock(self.state)

    def head(self, *, extra: int = 0) -> nn.Module:
        return Coordinates(self.outputs) if self.state_is_data else nn.Linear(self.state + extra, self.outputs)


@final
class LinearField(VectorField):
    """f(t, y, *given) = theta (y, *given)."""

    batched_time = True

    def __init__(self, state: int, *, given: int = 0) -> None:
        super().__init__()
        self.theta = _matrix(state, state + given)

    def forward(self, t: Time, y: State, *given: Tensor) -> State:
        return with_given(y, given) @ self.theta.T


@final
class LinearBlock(Block):
    """y + dt theta y."""

    def __init__(self, state: int) -> None:
        super().__init__()
        self.theta = _matrix(state, state)

    def forward(self, y: State, dt: float) -> State:
        return torch.add(y, y @ self.theta.T, alpha=dt)


def _matrix(rows: int, columns: int) -> nn.Parameter:
    """Small, so that the first flows neither explode nor oscillate."""
    return nn.Parameter(0.1 * torch.randn(rows, columns))
