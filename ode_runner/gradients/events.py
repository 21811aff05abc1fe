"""Solves with events: one solve from event to event, and the derivatives of the events' times."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ode_runner.devices.transfer import read_times
from ode_runner.errors import RefusedInput, SolverFailed
from ode_runner.event import Event, Stop
from ode_runner.fields.counted_field import CountedField
from ode_runner.gradients.continuous import warm_started
from ode_runner.gradients.event_checks import steps_each
from ode_runner.gradients.found_events import FoundEvents
from ode_runner.problem import Problem, Solution
from ode_runner.solvers.base import AdaptiveSolver, Solver
from ode_runner.solvers.event_search import SoughtEvent
from ode_runner.solvers.first_order import differentiable_once
from ode_runner.solvers.mapped_field import MappedField
from ode_runner.solvers.one_step import ExplicitRungeKutta
from ode_runner.solvers.tableau import time_tensor
from ode_runner.types import Rows, State

Solve = Callable[[Solver, Problem], Solution]
OF_EVENTS = (
    "a second derivative of a solve with events was asked for (create_graph=True), and there is none. "
    "Leave create_graph out, or the event."
)
CROWDED = (
    "follows so closely on the one before, or on so many, that they accumulate and time no longer advances. End the "
    "solve before: Event(..., ends_after=...), or earlier times."
)
GRAZES = "grazes 0 without going through it, so that its time has no derivative. Move the event, or the beginning."


def solve_to_events(solve: Solve, solver: Solver, problem: Problem) -> Solution:
    """`solve(solver, problem)` from event to event: each of these solves ends where its samples meet an event.

    By the implicit function theorem, the time of an event changes by dt = -(dc/dy dy + dc/dp dp) / (dc/dt + dc/dy f),
    the state at the event by a further f dt, and the next solve begins later by dt. These derivatives are those of the
    flow; they are added outside of the gradient mode. Every solve takes one evaluation at its beginning, and every
    event one more. An output at the time of an event is the state before its reset.

    Raises:
        RefusedInput: an event is at the first time.
        SolverFailed: a root cannot be differentiated, or a sample has too many events, or they accumulate.
    """
    event = problem.event
    if event is None or not isinstance(solver, ExplicitRungeKutta):
        raise ValueError("there is no event, or the solver finds none")
    return _Segments(solve, solver, problem, event).solution()


@dataclass(frozen=True, kw_only=True, eq=False)
class _Segment:
    """A solve from one event to the next: the beginning for some samples, each at its own time."""

    samples: Tensor  # int64 (samples,), on the CPU: indices in the batch
    start: Tensor  # float64 (samples,), on the CPU
    y: Rows
    side: Tensor  # float64 (samples,), on the CPU: the sign of the event function at the beginning
    level: Tensor  # float64 (samples,), on the CPU: scale of the rate of c: the first rate, or the first value / span
    sizes: Tensor | None = None  # sizes of first steps


class _Segments:
    def __init__(self, solve: Solve, solver: ExplicitRungeKutta, problem: Problem, event: Event) -> None:
        self.solve, self.solver, self.problem, self.event = solve, solver, problem, event
        self.times = torch.tensor(read_times(problem.ts), dtype=torch.float64)
        self.each, self.batch = steps_each(solver), len(problem.y0)
        self.sign = -1.0 if self.times[-1] < self.times[0] else 1.0
        eps = torch.finfo(problem.y0.dtype).eps
        self.resolution = 16 * eps * float(self.times.abs().max())  # of times in the state's dtype
        self.grazing = 8 * eps**0.5
        self.off = (solver.atol, solver.rtol) if isinstance(solver, AdaptiveSolver) else (0.0, 0.0)

    def solution(self) -> Solution:
        found = FoundEvents(self.problem.y0, self.times, self.sign)
        solver, segment = self.solver, self._first()
        while segment is not None and len(segment.samples):
            solver, segment = self._go_on(solver, segment, found)
        return found.solution(each=self.each)

    def _first(self) -> _Segment | None:
        """The segment that begins at the first time; None if there is no other time."""
        if self.times[0] == self.times[-1]:
            return None
        samples, start = torch.arange(self.batch), self.times[:1].expand(self.batch)
        y0 = self.problem.y0
        c, rate = self._rate(samples, start, y0, self._slope(samples, start, y0))
        near = c.abs() <= rate.abs() * self.resolution
        moving = rate.sign()
        if bool(near.any()):
            self._refuse_start(int(near.nonzero()[0]), moving[near])
        level = torch.maximum(c.abs() / self._span(), rate.abs())
        return _Segment(samples=samples, start=start, y=y0, side=torch.where(near, moving, c.sign()), level=level)

    def _refuse_start(self, sample: int, moving: Tensor) -> None:
        """Raises RefusedInput unless the event function, which is 0 here, leaves 0 against the event's direction."""
        direction = self.event.direction
        if direction and bool((moving == -direction).all()):
            return
        place = f"the event is 0 at t={float(self.times[0]):.6g}, where the solve of sample {sample} begins"
        if not direction:
            raise RefusedInput(
                f"{place}, so that it is uncertain whether it counts: say by direction=1 or direction=-1 which way it "
                "must go through 0."
            )
        raise RefusedInput(
            f"{place}, and does not move away from 0 against its direction={direction}: it would happen at once. "
            "Begin with the state after its reset."
        )

    def _go_on(
        self, solver: ExplicitRungeKutta, segment: _Segment, found: FoundEvents
    ) -> tuple[ExplicitRungeKutta, _Segment | None]:
        """Solve a segment; returns the solver and the segment after that."""
        given = [z[segment.samples.to(z.device)] for z in self._given()]
        sought = SoughtEvent(
            event=self.event, given=given, side=segment.side, sign=self.sign, numbers=segment.samples.tolist(),
            batch=self.batch, atol=self.off[0], rtol=self.off[1], sizes=segment.sizes,
        )  # fmt: skip
        ts = self._times(segment)
        part = replace(self.problem, field=self._field(segment.samples), y0=segment.y, ts=ts, event=None)
        solution = self.solve(replace(solver, sought=sought), part)
        found.solutions.append((segment.samples, solution))
        stop = solution.stop or Stop(torch.full((len(segment.samples),), torch.nan, dtype=torch.float64))
        if self.each:
            found.put_each(segment.samples, segment.start, stop.times, solution.ys)
        else:
            found.put(solution.ys[1:] if bool(stop.times.isnan()) else solution.ys[1:-1], len(self.times) - len(ts) + 1)
        met = stop.times.isnan().logical_not().nonzero().flatten()
        after = self._at_events(segment, met, stop, solution.ys[-1], found) if len(met) else None
        warm = solver if self.each else warm_started(solver, solution)
        assert isinstance(warm, ExplicitRungeKutta)
        return warm, after

    def _times(self, segment: _Segment) -> Tensor:
        """The beginning of a segment and the outputs after it; (time, sample) if every sample has its own steps."""
        if not self.each:
            return torch.cat([segment.start, self.times[self.sign * self.times > self.sign * segment.start]])
        later = self.sign * torch.maximum(self.sign * self.times[1:, None], self.sign * segment.start)
        return torch.cat([segment.start[None], later, later[-1:]])

    def _at_events(
        self, segment: _Segment, met: Tensor, stop: Stop, ends: State, found: FoundEvents
    ) -> _Segment | None:
        """Note the events at which rows `met` of a segment stopped; returns the next segment, of samples that go on."""
        samples, t, here = segment.samples[met], stop.times[met], met.to(ends.device)
        y, dy = ends[here], self._slope(samples, t, ends[here])
        c, rate = self._rate(samples, t, y, dy)
        self._check(segment, met, t, rate, found)
        time, state = self._moved(samples, t, y, dy, rate)
        found.note(samples, time, state)
        last = self.event.ends_after
        over = torch.zeros_like(met, dtype=torch.bool) if last is None else found.counts[samples] >= last
        found.hold(samples[over], t[over], state[over.to(state.device)])
        going = (~over & (t != self.times[-1])).nonzero().flatten()
        if not len(going):
            return None
        sizes = None if stop.sizes is None else stop.sizes[met][going]
        there = going.to(state.device)
        return self._after(samples[going], t[going], time[there], state[there], c[going], rate[going], sizes)

    def _check(self, segment: _Segment, met: Tensor, t: Tensor, rate: Tensor, found: FoundEvents) -> None:
        """Raises SolverFailed if the solve cannot go on after an event, or the event cannot be differentiated."""
        apart, direction = (t - segment.start[met]).abs(), self.event.direction
        turned = rate.sign() != direction if direction else torch.zeros_like(met, dtype=torch.bool)
        grazes = turned | ~(rate.abs() > self.grazing * segment.level[met])
        crowded = (apart <= self.resolution) | (turned & (apart <= self.grazing * self._span()))
        many = found.counts[segment.samples[met]] >= self.event.most
        self._refuse(segment, met, t, crowded | many, CROWDED, found)
        self._refuse(segment, met, t, grazes, GRAZES, found)

    def _refuse(self, segment: _Segment, met: Tensor, t: Tensor, wrong: Tensor, what: str, found: FoundEvents) -> None:
        if not bool(wrong.any()):
            return
        row = int(wrong.nonzero()[0])
        sample = int(segment.samples[met[row]])
        raise SolverFailed(
            f"event number {int(found.counts[sample]) + 1} of sample {sample} of {self.batch}, "
            f"at t={float(t[row]):.6g}, {what}"
        )

    def _moved(self, samples: Tensor, t: Tensor, y: Rows, dy: Rows, rate: Tensor) -> tuple[Tensor, Rows]:
        """Times (rows,) and states of events, with their derivatives with respect to solution and event parameters."""
        if not torch.is_grad_enabled():
            return t.to(y), y
        c = self.event(t.to(y), y, [z[samples.to(z.device)] for z in self._given()])
        shift = (c.detach() - c) / (self.sign * rate).to(y)  # `rate` is along the solve; this is dc/dt
        state = y + shift.view(-1, *[1] * (y.dim() - 1)) * dy
        return differentiable_once(t.to(y) + shift, OF_EVENTS), differentiable_once(state, OF_EVENTS)

    def _after(
        self, samples: Tensor, t: Tensor, time: Tensor, state: Rows, c0: Tensor, rate0: Tensor, sizes: Tensor | None
    ) -> _Segment:
        """The segment that begins with the states after a reset; their derivative includes the event's time.

        Before the reset, the event function was `c0`, nearly 0, with the rate `rate0`.
        """
        y = self.event.state_after(time, state, [z[samples.to(z.device)] for z in self._given()])
        dy = self._slope(samples, t, y)
        c, rate = self._rate(samples, t, y, dy)
        late = (c0 / rate0).abs()  # error of the event's time
        near = c.abs() <= torch.maximum(rate.abs(), rate0.abs()) * (10 * late).clamp_min(self.resolution)
        resting = near & ~(rate.abs() > self.grazing * rate0.abs())
        if bool(resting.any()):
            row = int(resting.nonzero()[0])
            raise SolverFailed(
                f"the reset of sample {int(samples[row])} of {self.batch} at t={float(t[row]):.6g} leaves the event at "
                "0, and at rest there. Let the reset lead away from it, or the event end the solve."
            )
        shift = (time - time.detach()).view(-1, *[1] * (y.dim() - 1))
        return _Segment(
            samples=samples,
            start=t,
            y=y - shift * dy if torch.is_grad_enabled() else y,
            side=torch.where(near, rate.sign(), c.sign()),
            level=torch.maximum(c.abs() / self._span(), rate.abs()),
            sizes=sizes,
        )

    def _span(self) -> float:
        return abs(float(self.times[-1] - self.times[0]))

    def _given(self) -> list[Tensor]:
        """The event function's arguments after time and state: the caller's own tensors, with their graph."""
        return list(self.problem.field.of_field(self.problem.field.given))

    def _field(self, samples: Tensor) -> CountedField:
        """The field with the given tensors of some samples, in their order."""
        field = self.problem.field
        if not field.given or len(samples) == self.batch:
            return field
        given = [z[samples.to(z.device)] for z in field.given]
        return CountedField.around(field.field, field.ledger, **{**field.options(), "given": given})

    @torch.no_grad()
    def _slope(self, samples: Tensor, t: Tensor, y: Rows) -> Rows:
        """f(t, y) for some samples; counts as one evaluation."""
        field = self._field(samples)
        return MappedField(field)(t.to(y), y.detach()) if self.each else field(time_tensor(float(t), y), y.detach())

    @torch.no_grad()
    def _rate(self, samples: Tensor, t: Tensor, y: Rows, dy: Rows) -> tuple[Tensor, Tensor]:
        """The event function and its rate of change along the solve; float64 (rows,) on the CPU."""
        given = [z[samples.to(z.device)] for z in self._given()]
        c, rate = self.event.rate(t.to(y), y, dy, given)
        return c.cpu().double(), self.sign * rate.cpu().double()
