"""What a model computes from its inputs before it solves: the initial state, and other tensors for the field."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

from ode_runner.errors import IncompatibleChoice
from ode_runner.types import State


class Encoding(NamedTuple):
    """The initial state of a solve and further arguments of the field. A stem returns this, or the state alone."""

    y0: State
    given: Sequence[Tensor] = ()  # (batch, ...) each: arguments of the field after time and state, such as a condition
    terms: Mapping[str, Tensor] = MappingProxyType({})  # (batch,) each: terms of the loss, by name, such as {"kl": ...}
    breaks: Sequence[float] = ()  # times at which the field is discontinuous because of `given`
    knots: Sequence[float] = ()  # times at which a derivative of the field is: no step spans one
    lengths: Tensor | None = None  # (batch,), int64: rows of each series without padding, if series are encoded

    def to(self, dtype: torch.dtype) -> "Encoding":
        """The encoding with the state and the floating-point tensors of `given` converted; integers stay integers."""
        given = [z.to(dtype) if z.is_floating_point() else z for z in self.given]
        return self._replace(y0=self.y0.to(dtype), given=given)


def state_and_given(y0: State | Encoding, given: Sequence[Tensor]) -> tuple[State, tuple[Tensor, ...]]:
    """The initial state and all tensors given to the field; those of an encoding come first."""
    return (y0.y0, (*y0.given, *given)) if isinstance(y0, Encoding) else (y0, tuple(given))


def state_alone(encoding: Encoding, model: str) -> State:
    """The state of an encoding whose `given` is empty.

    Raises:
        IncompatibleChoice: `given` is not empty; the model's blocks take the state alone.
    """
    if encoding.given:
        raise IncompatibleChoice(
            f"model={model} has blocks of the state alone, and the stem of this network gives more than a state. "
            "Use model=odenet."
        )
    return encoding.y0
