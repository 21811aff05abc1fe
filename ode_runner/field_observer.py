"""What sees the evaluations of a field as a solver makes them."""

import abc
from collections.abc import Callable
from typing import Any

from torch import Tensor

from ode_runner.random_state import RandomState
from ode_runner.types import State

Evaluated = Callable[[Any, State], State]  # a time, or one for each sample, and a state to a derivative


class Observer(abc.ABC):
    """Makes the evaluations of a field, and sees what happens in them."""

    random = False  # True once an evaluation has drawn random numbers

    def __init__(self) -> None:
        self.draws: list[tuple[float, RandomState]] = []  # each evaluation's time, and the generators before it

    @abc.abstractmethod
    def evaluate(self, function: Evaluated, t: Tensor, y: State) -> State:
        """function(t, y)."""

    def look(self, function: Evaluated, t: Tensor, y: State, dy: State) -> Tensor:
        """function(t, y) for integrands, which read dy = f(t, y) and do not count as an evaluation."""
        del dy
        return function(t, y)
