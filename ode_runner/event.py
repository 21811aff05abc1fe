"""Events, at roots of a function of time and state, and jumps at known times: what ends a solve or resets a state."""

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, final

import torch
from torch import Tensor, nn

from ode_runner.errors import RefusedInput
from ode_runner.types import State

EventFunction = Callable[..., Tensor]  # of t, y, *given
Reset = Callable[..., State]  # likewise
MOST = 1000  # events of one sample, where nothing else is said


@final
class Event(nn.Module):
    """c(t, y, *given) = 0: ends a solve, or, with a `reset`, sets the state anew and lets it go on.

    Where `c` or `reset` is a module, its parameters are learned: times of events and all states after them are
    differentiable with respect to whatever they depend on.

    Args:
        c: takes times (batch,), states (batch, *state) and what is given to the field; gives one real number a sample,
            (batch,). Samples must not interact.
        direction: 1 where `c` must rise through 0 as the solve goes, -1 where it must fall, 0 for either.
        reset: takes the same, at the event; gives the state after it, in the shape of the state. None: the event ends
            the solve.
        ends_after: the number of events after which a sample's solve ends; the last one resets nothing. None: it goes
            on.
        longest: the longest time between two evaluations of `c`. None: an eighth of a step. Of roots that lie closer
            together, not more than one pair is found in a step.
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
        if direction not in (-1, 0, 1):
            raise RefusedInput(f"direction of an event is 1 (rising), -1 (falling) or 0 (either), not {direction!r}.")
        if longest is not None and not longest > 0:
            raise RefusedInput(f"longest of an event must be positive, not {longest!r}.")
        if ends_after is not None and not ends_after >= 1:
            raise RefusedInput(f"ends_after of an event must be 1 or more, not {ends_after!r}.")
        self.c, self.reset, self.direction, self.longest, self.most = c, reset, direction, longest, most
        self.ends_after = 1 if reset is None else ends_after

    def forward(self, t: Tensor, y: State, given: Sequence[Tensor] = ()) -> Tensor:
        """c(t, y, *given), (batch,).

        Raises:
            RefusedInput: it is not one real number for every sample.
        """
        c = self.c(t, y, *given)
        if not isinstance(c, Tensor) or not c.is_floating_point() or c.shape != y.shape[:1]:
            found = f"{c.dtype} of shape {tuple(c.shape)}" if isinstance(c, Tensor) else f"a {type(c).__name__}"
            raise RefusedInput(
                f"an event is a function whose root ends the solve: one real number for every sample, "
                f"(batch,) = {tuple(y.shape[:1])}, and this one gave {found}. Give y[:, 0] - 1, say, and not y < 1."
            )
        return c

    def rate(self, t: Tensor, y: State, dy: State, given: Sequence[Tensor] = ()) -> tuple[Tensor, Tensor]:
        """c, and its derivative along the solution whose slope here is `dy`; (batch,) each, without a graph."""
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
            RefusedInput: it has not the shape of the state.
        """
        assert self.reset is not None
        return _checked(self.reset(t, y.clone(), *given), y, "the reset of an event")


@final
class Jumps(nn.Module):
    """At known times the state of every sample becomes to(t, y, *given), such as after a dose.

    Where `to` is a module its parameters are learned.

    Args:
        times: in any order.
        to: takes the time (), states (batch, *state) before it and what is given to the field; gives those after it.
    """

    def __init__(self, times: Sequence[float], to: Reset) -> None:
        super().__init__()
        for t in times:
            if not isinstance(t, int | float) or not math.isfinite(t):
                raise RefusedInput(f"times of jumps must be finite numbers, and one is {t!r}.")
        self.times, self.to_state = tuple(times), to

    def state_after(self, t: Tensor, y: State, given: Sequence[Tensor] = ()) -> State:
        """to(t, y, *given).

        Raises:
            RefusedInput: it has not the shape of the state.
        """
        own = y.clone()  # which may be written into, and is not what has been given out
        return _checked(self.to_state(t, own, *given), y, "a jump")


def _checked(after: State, y: State, what: str) -> State:
    if not isinstance(after, Tensor) or after.shape != y.shape:
        shape = f"of shape {tuple(after.shape)}" if isinstance(after, Tensor) else f"a {type(after).__name__}"
        raise RefusedInput(
            f"{what} must give a state in the shape of the one before, {tuple(y.shape)}, and gave one {shape}."
        )
    return after.to(y.dtype)


class Stop(NamedTuple):
    """When an event has stopped the solve of each sample."""

    times: Tensor  # float64 (batch,), on the CPU; NaN: it has not
    sizes: Tensor | None = None  # float64 (batch,), of steps that control would try next; None: a fixed grid


class Events(NamedTuple):
    """The events of a solve."""

    times: Tensor  # (event, batch), in their order; NaN after a sample's last
    states: Tensor  # (event, batch, *state), before their reset; NaN likewise
    valid: Tensor  # (time, batch), bool: False after the end of a sample, whose outputs hold its last state
