"""A linear field."""

from typing import final

import torch
from torch import Tensor, nn

from ode_runner.batch import TaskSpec
from ode_runner.field import JVP, LinearizableField, VectorField
from ode_runner.networks.base import Block
from ode_runner.networks.channels import with_given
from ode_runner.networks.vector import VectorNetwork
from ode_runner.types import State, Time


@final
class Linear(VectorNetwork):
    """The field y' = theta y; the inputs are the state.

    The head is the identity if outputs are such states at every time, otherwise a linear layer on the last state.
    """

    def __init__(self, spec: TaskSpec) -> None:
        super().__init__(spec, largest=None)

    def field(self, *, extra: int = 0, given: int = 0) -> VectorField:
        return LinearField(self.state + extra, given=given)

    def block(self) -> Block:
        return LinearBlock(self.state)


@final
class LinearField(LinearizableField):
    """f(t, y, *given) = theta (y, *given)."""

    batched_time = True

    def __init__(self, state: int, *, given: int = 0) -> None:
        super().__init__()
        self.theta = _matrix(state, state + given)

    def linearize(self, t: Time, y: State, *given: Tensor) -> tuple[State, JVP]:
        theta = self.theta
        return with_given(y, given) @ theta.T, lambda v: v @ theta[:, : v.shape[-1]].T


@final
class LinearBlock(Block):
    """y + dt theta y."""

    def __init__(self, state: int) -> None:
        super().__init__()
        self.theta = _matrix(state, state)

    def forward(self, y: State, dt: float) -> State:
        return torch.add(y, y @ self.theta.T, alpha=dt)


def _matrix(rows: int, columns: int) -> nn.Parameter:
    """Small initial values, so that solves at the start of training neither explode nor oscillate."""
    return nn.Parameter(0.1 * torch.randn(rows, columns))
