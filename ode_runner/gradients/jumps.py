"""Solves with jumps of the state at known times: one solve from jump to jump."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

from torch import Tensor

from ode_runner.devices.transfer import read_times
from ode_runner.errors import IncompatibleChoice, RefusedInput
from ode_runner.event import Event, Jumps
from ode_runner.gradients.breaks import edges_of, joined, times_of
from ode_runner.problem import Solution
from ode_runner.types import State, Times

Solve = Callable[[State, Times], Solution]


def solve_between_jumps(
    solve: Solve, y0: State, ts: Times, jumps: Jumps, given: Sequence[Tensor], *, event: Event | None
) -> Solution:
    """`solve(y0, ts)` from jump to jump. Autograd differentiates the jumps, outside of the gradient mode.

    An output at the time of a jump is the state before it. A jump at the first time is ignored.
    """
    _check_jumps(jumps, ts, event=event is not None)
    edges = edges_of(ts, jumps.times)
    if not edges:
        return solve(y0, ts)
    pieces, done = list[tuple[Solution, int]](), 1
    for start, end in pairwise(edges):
        part, count = times_of(ts, done, start, end)
        solution = solve(y0, part)
        pieces.append((solution, count))
        done += count
        if end != edges[-1]:
            y0 = jumps.state_after(part[-1], solution.ys[-1], given)
    return replace(joined(pieces), ts=ts)


def _check_jumps(jumps: Jumps, ts: Times, *, event: bool) -> None:
    """Raises RefusedInput or IncompatibleChoice if jumps are invalid, or combined with what has no rule for them."""
    if not isinstance(jumps, Jumps):
        raise RefusedInput(f"jumps are ode_runner.event.Jumps(times, to), and this is a {type(jumps).__name__}.")
    if event:
        raise IncompatibleChoice(
            "a solve with an event takes no jumps at known times. Leave one of them out, or let the event be a "
            "function of the time, such as t - 1."
        )
    times = read_times(ts)
    if times[0] > times[-1] and any(times[-1] < t < times[0] for t in jumps.times):
        raise RefusedInput(
            f"a jump cannot be followed back, and these times go from {times[0]:.6g} to {times[-1]:.6g} over one. "
            "Give times that increase."
        )
