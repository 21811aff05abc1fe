"""Steppers, which take the steps of a Runge-Kutta method: eagerly in PyTorch, or as compiled code."""

import abc
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from ode_runner.field import VectorField
from ode_runner.types import State


class StepResult(NamedTuple):
    """The result of an attempted step, not yet accepted."""

    y1: State
    ks: list[Tensor]  # the stages' derivatives
    f1: State | None = None  # f(t1, y1), if that is the tableau's last row
    error: float = 0.0  # estimated, in units of the tolerance
    curve: Tensor | None = None  # (5, batch, *state): the dense output's coefficients; then `ks` may be missing


class Stepper(abc.ABC):
    """Takes the steps of one method along one field."""

    @abc.abstractmethod
    def slope(self, t: float, y: State) -> State:
        """f(t, y)."""

    @abc.abstractmethod
    def step(self, t0: float, t1: float, y0: State, f0: State | None) -> StepResult:
        """A step from (t0, y0) to t1; f0 = f(t0, y0), if it is known."""


class AdaptiveStepper(Stepper):
    """A stepper of a method with step size control."""

    @abc.abstractmethod
    def begin(self, t0: float, y0: State, *, span: float) -> tuple[State, float]:
        """f(t0, y0), and the size of the first step to try."""


Stepping = Callable[[VectorField], AdaptiveStepper]  # makes the stepper of a solve along a field
