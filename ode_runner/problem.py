"""An initial value problem, its solution, and checks before a solver sees it."""

import abc
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Protocol, TypedDict, Unpack, runtime_checkable

import torch
from torch import Tensor, promote_types

from ode_runner.devices.transfer import read_times
from ode_runner.encoding import Encoding
from ode_runner.errors import RefusedInput
from ode_runner.event import Event, Events, Jumps, Stop
from ode_runner.field import VectorField
from ode_runner.fields.counted_field import CountedField, name_of
from ode_runner.fields.ledger import EachSample
from ode_runner.fields.structured_field import kind_of
from ode_runner.integral import NONE, Integral
from ode_runner.noise.brownian_path import Noise
from ode_runner.types import State, Time, Times, Trajectory

LISTED = 8  # times that are repeated in advice


@dataclass(frozen=True, kw_only=True)
class Problem:
    """dy/dt = f(t, y), y(ts[0]) = y0: the problem that a gradient mode solves.

    `field` holds the tensors given to it, the integrals along the solve and the noise that drives it.
    """

    field: CountedField
    y0: State
    ts: Times  # (time, batch) if every sample has its own times
    breaks: Sequence[float] = ()  # times at which the field is discontinuous
    event: Event | None = None


@dataclass(frozen=True, kw_only=True)
class Solution:
    """States at the requested times, and the steps of the solve. A model without a solve fills in its states alone."""

    ys: Trajectory
    integrals: Mapping[str, Tensor] = field(default_factory=dict)  # (time, batch) each, from 0 at ts[0]
    ts: Times | None = None  # None: those of the problem
    accepted: int = 0  # number of steps; if every sample has its own, that of the sample with the most attempts
    rejected: int = 0
    next_step: float | None = None  # the step size that step control would try next; None: fixed steps
    smallest_step: float | None = None  # the smallest accepted step that step control chose; None: fixed steps
    each: EachSample | None = None  # None: all samples have the same steps
    stop: Stop | None = None  # where an event stopped the solve, if the solver looked for one
    events: Events | None = None  # None: no event was looked for

    def __getitem__(self, place: Any) -> Tensor:
        """Index the states: solution[-1] is the state at the last time."""
        return self.ys[place]


def with_steps_of(whole: Solution, parts: Sequence[Solution]) -> Solution:
    """`whole` with the steps of several solves: the sums of accepted and rejected steps, and the smallest step."""
    smallest = [part.smallest_step for part in parts if part.smallest_step is not None]
    return replace(
        whole,
        accepted=sum(part.accepted for part in parts),
        rejected=sum(part.rejected for part in parts),
        smallest_step=min(smallest, default=None),
    )


def solution_without_elements(problem: Problem) -> Solution:
    """The solution if the state has no elements, such as an empty batch.

    It takes one evaluation, so that parameters have a gradient of zero. No solver is called: the error norm of step
    control, a mean over no elements, would be NaN.
    """
    y0, ts = problem.y0, problem.ts
    call = next(iter(kind_of(problem.field).call_weights))  # the drift of a stochastic field
    moved = y0 + getattr(problem.field, call)(ts[0].to(y0.dtype), y0)
    integrals = {name: y0.new_zeros(len(ts), len(y0)) for name in problem.field.names}
    ys = torch.stack([y0, *[moved] * (len(ts) - 1)])
    valid = torch.ones(len(ts), len(y0), dtype=torch.bool, device=y0.device)
    events = Events(times=y0.new_zeros(0, len(y0)), states=y0.new_zeros(0, *y0.shape), valid=valid)
    return Solution(ys=ys, integrals=integrals, events=None if problem.event is None else events)


class SolveOptions(TypedDict, total=False):
    """The options of a solve besides field, initial state and times; see `Integrator.__call__`."""

    given: Sequence[Tensor]
    integrals: Mapping[str, Integral]
    noise: Noise | None
    event: Event | None
    breaks: Sequence[float]
    jumps: Jumps | None


@runtime_checkable  # for tests, which check types at run time
class Integrate(Protocol):
    """Solves dy/dt = field(t, y, *given) from y0 at ts[0]; the solution's `ys` are the states at `ts`.

    An `Encoding` in place of `y0` brings its own given tensors. The solution holds the `integrals` by their names.
    """

    def __call__(
        self, field: VectorField, y0: State | Encoding, ts: Times, **options: Unpack[SolveOptions]
    ) -> Solution: ...

    def evaluate(
        self, field: VectorField, t: Time, y: State, *, given: Sequence[Tensor] = (), call: str = "forward"
    ) -> Tensor:
        """field.call(t, y, *given), counted in the ledger: for objectives that evaluate the field without a solve."""


class WrappedIntegrate:
    """An `Integrate` around another one, to which it passes everything that a subclass does not change."""

    def __init__(self, integrate: Integrate) -> None:
        self.integrate = integrate

    def __call__(
        self, field: VectorField, y0: State | Encoding, ts: Times, **options: Unpack[SolveOptions]
    ) -> Solution:
        return self.integrate(field, y0, ts, **options)

    def evaluate(
        self, field: VectorField, t: Time, y: State, *, given: Sequence[Tensor] = (), call: str = "forward"
    ) -> Tensor:
        return self.integrate.evaluate(field, t, y, given=given, call=call)


class TakesStates(abc.ABC):
    """An `Integrate` that also receives the states between the layers of a model that computes them without a solve."""

    @abc.abstractmethod
    def take_states(self, states: Sequence[State]) -> None:
        """Receive the states between the layers of a model, the initial one first."""


def check_solvable(y0: State, ts: Times, breaks: Sequence[float]) -> None:
    """Raises RefusedInput unless the state is real, times are finite, floating-point and monotone, and breaks finite.

    Times may be repeated.
    """
    _check_real(y0)
    _check_times(ts)
    if (joint := promote_types(y0.dtype, ts.dtype)) in (torch.float16, torch.bfloat16):
        raise RefusedInput(
            f"state and times are {joint}, which rounds away what short steps add. Give ts.float(): the solve is in "
            f"the finer of the two precisions. A field with weights in {joint} takes y.to({joint})."
        )
    for place, b in enumerate(breaks):
        if not isinstance(b, int | float) or not math.isfinite(b):
            raise RefusedInput(f"breaks must be finite numbers, and number {place + 1} of {len(breaks)} is {b!r}.")


def _check_real(y0: State) -> None:
    if not isinstance(y0, Tensor):
        raise RefusedInput(
            f"the initial state must be a tensor (batch, *state), and is a {type(y0).__name__}. "
            "Give torch.tensor([[1.0, 0.0]]), a row for every sample."
        )
    if y0.is_complex():
        raise RefusedInput(
            f"the initial state is complex ({y0.dtype}), and solvers take real ones. Solve for real and imaginary "
            "parts, torch.view_as_real(y0), or for torch.cat([y0.real, y0.imag], dim=1)."
        )


def _check_times(ts: Times) -> None:
    if not isinstance(ts, Tensor) or ts.dim() != 1 or len(ts) == 0:
        shape = f"of shape {tuple(ts.shape)}" if isinstance(ts, Tensor) else f"a {type(ts).__name__}"
        listed = isinstance(ts, list | tuple) and 0 < len(ts) <= LISTED and all(isinstance(t, int | float) for t in ts)
        given = [float(t) for t in ts] if listed else [0.0, 1.0]
        raise RefusedInput(
            f"times must be a vector of one number at least, and are {shape}. Give torch.tensor({given})."
        )
    if not ts.is_floating_point():
        raise RefusedInput(f"times must be floating-point numbers, and are {ts.dtype}. Give ts.to(y0.dtype).")
    times = read_times(ts)
    for place, t in enumerate(times):
        if not math.isfinite(t):
            raise RefusedInput(f"times must be finite, and number {place + 1} of {len(times)} is {t}.")
    sign = 1 if times[-1] >= times[0] else -1
    for earlier, later in pairwise(times):
        if sign * (later - earlier) < 0:
            raise RefusedInput(
                f"times must run one way, and these go from {times[0]:.6g} to {times[-1]:.6g} but from {earlier:.6g} "
                f"to {later:.6g} in between. Sort them."
            )


def check_kinds(
    given: Sequence[Tensor], integrals: Mapping[str, Integral] = NONE, breaks: Sequence[float] = ()
) -> None:
    """Raises RefusedInput unless what is handed over with a solve are collections of what they should be of."""
    if not isinstance(given, Sequence):
        raise RefusedInput(f"given is a list of tensors, given=[z], and this is a {type(given).__name__}.")
    if not isinstance(breaks, Iterable):
        raise RefusedInput(f"breaks is a list of times, breaks=[0.5], and this is a {type(breaks).__name__}.")
    several = list(integrals.values()) if isinstance(integrals, Mapping) else [integrals]
    if wrong := [type(one).__name__ for one in several if not isinstance(one, Integral)]:
        raise RefusedInput(
            "integrals are named, integrals={'price': ode_runner.integral.Integral(g, judged=True)}, and one is a "
            f"{wrong[0]}."
        )


def check_given(given: Sequence[Tensor], y0: State) -> None:
    """Raises RefusedInput unless each tensor given to a field has one row per sample of the state."""
    for place, z in enumerate(given):
        if not isinstance(z, Tensor) or z.dim() == 0 or y0.dim() == 0 or len(z) != len(y0):
            shape = f"of shape {tuple(z.shape)}" if isinstance(z, Tensor) else f"a {type(z).__name__}"
            raise RefusedInput(
                f"what is given to a field has a row for every sample of the state {tuple(y0.shape)}, and number "
                f"{place + 1} is {shape}. Expand it over the batch, or make it a parameter of the field."
            )


def check_noise(noise: Noise | None, field: VectorField, y0: State) -> None:
    """Raises RefusedInput unless there is noise for the field, with one number in `samples` per sample of the state."""
    if not isinstance(noise, Noise):
        raise RefusedInput(
            f"{name_of(field)} is driven by noise, and the solve was given {'none' if noise is None else repr(noise)}: "
            "integrate(field, y0, ts, noise=Noise(path=BrownianPath(...), samples=...))."
        )
    if len(noise.samples) != len(y0):
        raise RefusedInput(
            f"{name_of(field)} is solved for {len(y0)} samples, and noise is given for {len(noise.samples)}: "
            "Noise.samples has a number for every sample of the state."
        )
