"""Observers, through which the evaluations of a field pass: they record or check what a field does inside."""

import abc
import weakref
from collections.abc import Callable
from typing import Any, final

from torch import Tensor

from ode_runner.devices.random_state import RandomState
from ode_runner.errors import RefusedInput
from ode_runner.types import State

Evaluated = Callable[[Any, State], State]  # maps a time, or one time per sample, and a state to a derivative


class Observer(abc.ABC):
    """Calls the field in place of the solver and observes what happens in the call."""

    random = False  # True once an evaluation has drawn random numbers

    def __init__(self) -> None:
        self.draws: list[tuple[float, RandomState]] = []  # time and random state before each evaluation

    @abc.abstractmethod
    def evaluate(self, function: Evaluated, t: Tensor, y: State) -> State:
        """function(t, y)."""

    def look(self, function: Evaluated, t: Tensor, y: State, dy: State) -> Tensor:
        """function(t, y) for integrands, which use dy = f(t, y) and are not counted as an evaluation."""
        del dy
        return function(t, y)


@final
class Untouched:
    """Refuses fields that change, in place, a tensor that the solve still uses. It compares tensors' version counters.

    Args:
        name: returns the name of the field for messages.
    """

    def __init__(self, name: Callable[[], str]) -> None:
        self._name = name
        self._before: weakref.ref[Tensor] | None = None  # the last derivative, while it is still in use
        self._version = 0

    def evaluate(self, function: Evaluated, t: Any, y: State) -> State:
        """function(t, y).

        Raises:
            RefusedInput: the function writes into `y`, or into the derivative that it returned before.
        """
        if y.is_inference():  # inference tensors have no version counter
            return function(t, y)
        version = y._version
        try:
            dy = function(t, y)
        except RuntimeError as error:
            if "leaf Variable" not in str(error) or not _goes(function, t, y.clone()):
                raise
            raise self._writing() from error
        if y._version != version:
            raise self._writing()
        self._check_before()
        if isinstance(dy, Tensor) and not dy.is_inference():
            self._before, self._version = weakref.ref(dy), dy._version
        return dy

    def _writing(self) -> RefusedInput:
        return RefusedInput(
            f"{self._name()} writes into the state that it is given, as y.mul_() does or a layer with "
            "inplace=True, and the states of the solve would change with it. Write into y.clone()."
        )

    def _check_before(self) -> None:
        before = None if self._before is None else self._before()
        if before is not None and before._version != self._version:
            raise RefusedInput(
                f"{self._name()} writes its derivative into the tensor in which it gave the one before, which the "
                "solve still goes by. Return a new tensor from every call, such as buffer.clone()."
            )


def _goes(function: Evaluated, t: Any, y: State) -> bool:
    """Whether the function can be evaluated with a state that is no leaf, into which autograd lets it write."""
    try:
        function(t, y)
    except RuntimeError:
        return False
    return True
