"""What a model is, and all it may know of numerics."""

import abc
from enum import Enum
from typing import ClassVar, Protocol

from torch import Tensor, nn

from ode_runner.field import VectorField
from ode_runner.types import State, Times, Trajectory


class Integrate(Protocol):
    """Solves dy/dt = field(t, y) from y0 at ts[0]; returns the states at `ts`."""

    def __call__(self, field: VectorField, y0: State, ts: Times) -> Trajectory: ...


class Numerics(Enum):
    """What a model asks of the solver and the gradient mode it is given."""

    NONE = "neither solver nor gradient mode"
    ANY = "any solver and any gradient mode that accepts it"
    DISCRETE = "a fixed-step explicit Runge-Kutta solver and an exact gradient mode"


class Model(nn.Module, abc.ABC):
    """Maps inputs to outputs through a state that evolves in depth: stem, evolution, head."""

    numerics: ClassVar[Numerics]

    stem: nn.Module
    head: nn.Module

    @abc.abstractmethod
    def states(self, inputs: Tensor, ts: Times, integrate: Integrate) -> Trajectory:
        """The state as it evolves from `stem(inputs)`; a continuous model gives it at the times `ts`."""

    def forward(self, inputs: Tensor, ts: Times, integrate: Integrate) -> Tensor:
        """Outputs read from the last state."""
        return self.head(self.states(inputs, ts, integrate)[-1])
