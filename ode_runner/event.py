"""Events (roots of a function of time and state) and jumps at known times, which end a solve or reset the state."""

import math
from collections.abc import Callable, Iterable, Sequence
from numbers import Integral, Real
from typing import Literal, NamedTuple, final

import torch
from torch import Tensor, nn

from ode_runner.errors import RefusedInput
from ode_runner.types import State

EventFunction = Callable[..., Tensor]  # of t, y, *given
Reset = Callable[..., State]  # of t, y, *given
MOST = 1000  # default for the largest number of events of a sample


@final
class Event(nn.Module):
    """c(t, y, *given) = 0 ends a solve or, with a `reset`, changes the state, after which the solve continues.

    If `c` or `reset` is a module, its parameters are learned. The times of events and all states after them are
    differentiable with respect to everything that they depend on.

    Args:
        c: takes times (batch,), states (batch, *state) and the tensors given to the field; returns one real number per
            sample, (batch,). Samples must not interact.
        direction: 1: `c` must rise through 0 in the direction of the solve; -1: it must fall; 0: either.
        reset: takes the same arguments at the event; returns the state after it, in the shape of the state. None: the
            event ends the solve.
        ends_after: the number of events after which a sample's solve ends; the last one resets nothing. None: no limit.
        longest: the longest time between two evaluations of `c`. None: an eighth of a step. If several roots lie closer
            together than this, at most one pair of them is found in a step.
        most: the largest number of events of a sample; one more is an error.
    """

    def __init__(
        self,
        c: EventFunction,
        *,
        direction: Literal[-1, 0, 1] = 0,
        reset: Reset | None = None,
        ends_after: int | None = None,
        longest: float | None = None,
        most: int = MOST,
    ) -> None:
        super().__init__()
        _check_function(c, "the first argument of an event")
        if reset is not None:
            _check_function(reset, "the reset of an event")
        if direction not in (-1, 0, 1):
            raise RefusedInput(f"direction of an event is 1 (rising), -1 (falling) or 0 (either), not {direction!r}.")
        if longest is not None and not (isinstance(longest, Real) and longest > 0):
            raise RefusedInput(f"longest of an event must be a positive number, not {longest!r}.")
        for name, count in {"most": most, "ends_after": 1 if ends_after is None else ends_after}.items():
            if not (isinstance(count, Integral) and count >= 1):
                raise RefusedInput(f"{name} of an event must be a whole number, 1 or more, not {count!r}.")
        self.c, self.reset, self.direction, self.longest, self.most = c, reset, direction, longest, most
        self.ends_after = 1 if reset is None else ends_after

    def forward(self, t: Tensor, y: State, given: Sequence[Tensor] = ()) -> Tensor:
        """c(t, y, *given), (batch,).

        Raises:
            RefusedInput: `c` does not return one real number per sample.
        """
        c = self.c(t, y, *given)
        if not isinstance(c, Tensor) or not c.is_floating_point() or c.shape != y.shape[:1]:
            found = f"{c.dtype} of shape {tuple(c.shape)}" if isinstance(c, Tensor) else f"a {type(c).__name__}"
            raise RefusedInput(
                f"an event is a function whose root ends the solve: one real number for every sample, "
                f"(batch,) = {tuple(y.shape[:1])}, and this one gave {found}. Give y[:, 0] - 1, say, and not y < 1."
            )
        return c.to(y.dtype)

    def rate(self, t: Tensor, y: State, dy: State, given: Sequence[Tensor] = ()) -> tuple[Tensor, Tensor]:
        """c and its total time derivative along the solution, where dy/dt = `dy`: (batch,) each, without a graph."""
        with torch.enable_grad():
            t, y = t.detach().requires_grad_(), y.detach().requires_grad_()
            c = self(t, y, [z.detach() for z in given])
            if not c.requires_grad:
                return c, torch.zeros_like(c)
            dt, of_state = torch.autograd.grad(c.sum(), [t, y], allow_unused=True, materialize_grads=True)
        return c.detach(), dt + (of_state * dy).reshape(len(y), -1).sum(dim=1)

    def state_after(self, t: Tensor, y: State, given: Sequence[Tensor] = ()) -> State:
        """reset(t, y, *given).

        Raises:
            RefusedInput: the result does not have the shape of the state.
        """
        assert self.reset is not None
        return _checked(self.reset(t, y.clone(), *given), y, "the reset of an event")


@final
class Jumps(nn.Module):
    """At known times, the state of every sample becomes to(t, y, *given): a dose of a drug, for example.

    If `to` is a module, its parameters are learned.

    Args:
        times: in any order.
        to: takes the time (), the states (batch, *state) before the jump and the tensors given to the field; returns
            the states after the jump.
    """

    def __init__(self, times: Sequence[float], to: Reset) -> None:
        super().__init__()
        if not isinstance(times, Iterable):
            raise RefusedInput(f"times of jumps are a list, such as [{times!r}], and this is a {type(times).__name__}.")
        for t in times:
            if not isinstance(t, int | float) or not math.isfinite(t):
                raise RefusedInput(f"times of jumps must be finite numbers, and one is {t!r}.")
        _check_function(to, "the second argument of Jumps")
        self.times, self.to_state = tuple(times), to

    def state_after(self, t: Tensor, y: State, given: Sequence[Tensor] = ()) -> State:
        """to(t, y, *given).

        Raises:
            RefusedInput: the result does not have the shape of the state.
        """
        own = y.clone()  # `to` may write into its argument, and `y` has already been returned as an output
        return _checked(self.to_state(t, own, *given), y, "a jump")


def _check_function(given: object, what: str) -> None:
    """Raises RefusedInput where something is no function of time and state."""
    if not callable(given):
        raise RefusedInput(f"{what} is a function of (t, y), and this is a {type(given).__name__}: lambda t, y: ...")


def _checked(after: State, y: State, what: str) -> State:
    if not isinstance(after, Tensor) or after.shape != y.shape:
        gave = f"one of shape {tuple(after.shape)}" if isinstance(after, Tensor) else f"a {type(after).__name__}"
        raise RefusedInput(
            f"{what} must give a state in the shape of the one before, {tuple(y.shape)}, and gave {gave}."
        )
    return after.to(y.dtype)


class Stop(NamedTuple):
    """When an event stopped the solve of each sample."""

    times: Tensor  # float64 (batch,), on the CPU; NaN: no event stopped the sample
    sizes: Tensor | None = None  # float64 (batch,): step sizes that step control would try next; None: fixed steps


class Events(NamedTuple):
    """The events of a solve."""

    times: Tensor  # (event, batch), in the order of the solve; NaN after a sample's last event
    states: Tensor  # (event, batch, *state), before the reset; NaN after a sample's last event
    valid: Tensor  # (time, batch), bool: False after the end of a sample's solve; its last state is repeated there
