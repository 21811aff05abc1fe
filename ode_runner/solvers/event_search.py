"""The search for an event within accepted steps, along their dense output."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ode_runner.errors import RefusedInput, SolverFailed
from ode_runner.event import Event
from ode_runner.solvers.dense_output import HermiteBirkhoffCurve, Quartic
from ode_runner.types import Rows

CHECKS = 8  # evaluations of an event function per step, unless its `longest` asks for more
MOST_CHECKS = 1_000_000
CUTS, ROUNDS = 16, 12  # a root is enclosed by dividing its interval into CUTS parts, ROUNDS times
TURNS = 8  # the same for the interval in which an event function comes nearest to 0
ROUNDING = 64  # assumed rounding error of an event function, in units of eps
TOUCHES = (
    "reaches 0 and turns back, within the error of the solve, so that it is uncertain whether it happens. Move the "
    "event or the beginning, or choose smaller tolerances."
)


@dataclass(frozen=True, kw_only=True, eq=False)
class SoughtEvent:
    """An event to be found along one solve; the first event of a sample ends its solve."""

    event: Event
    given: Sequence[Tensor]  # arguments of the event function after time and state, one row per sample
    side: Tensor  # float64 (batch,), on the CPU: 1 or -1, the sign of the event function when the solve begins
    sign: float  # 1: time increases, -1: it decreases
    numbers: Sequence[int]  # index of each sample in the caller's batch, for messages
    batch: int  # size of the caller's batch
    atol: float  # the error of an element of the state may be atol + rtol |y|
    rtol: float
    sizes: Tensor | None = None  # float64 (batch,): sizes of first steps; None: chosen automatically

    def corrected(self, t: Tensor, y: Rows, dy: Rows, rows: Tensor, within: tuple[Tensor, Tensor]) -> Tensor:
        """One Newton step for the time of a root, float64 (rows,), from slope `dy` at (t, y); clamped to `within`."""
        c, rate = self.event.rate(t.to(y), y, dy, self._given(rows))
        better = t - (c.cpu().double() / rate.cpu().double())
        better = torch.where(better.isfinite(), better, t)
        low, high = torch.minimum(*within), torch.maximum(*within)
        return torch.minimum(torch.maximum(better, low), high)

    def doubt(self, t: Tensor, y: Rows, rows: Tensor) -> Tensor:
        """The error of the event function that the tolerances of the state allow, float64 (rows,) on the CPU."""
        with torch.enable_grad():
            y = y.detach().requires_grad_()
            c = self.event(t.to(y), y, self._given(rows))
            found = torch.autograd.grad(c.sum(), y, allow_unused=True)[0] if c.requires_grad else None
        if found is None:
            return torch.zeros(len(y), dtype=torch.float64)
        off = self.atol + self.rtol * y.detach().abs()
        return (found.abs() * off).reshape(len(y), -1).sum(dim=1).cpu().double()

    def check_apart(self, t: Tensor, size: Tensor, doubt: Tensor, rows: Tensor) -> None:
        """Raises SolverFailed if an event function turns back at a distance `size` from 0 that is within `doubt`."""
        near = size <= doubt
        if bool(near.any()):
            row = int(near.nonzero()[0])
            sample = f"sample {self.numbers[int(rows[row])]} of {self.batch}"
            raise SolverFailed(f"the event of {sample}, at t={float(t[row]):.6g}, {TOUCHES}")

    def values(self, t: Tensor, y: Rows, rows: Tensor) -> Tensor:
        """The event function of some samples, float64 (rows,) on the CPU."""
        found = self.event(t.to(y), y, self._given(rows)).detach().cpu().double()
        if not bool(found.isfinite().all()):
            row = int(found.isfinite().logical_not().nonzero()[0])
            raise SolverFailed(
                f"{type(self.event.c).__name__}, the function of an event, is {float(found[row])} at "
                f"t={float(t[row]):.6g} in sample {self.numbers[int(rows[row])]} of {self.batch}."
            )
        return found

    def _given(self, rows: Tensor) -> list[Tensor]:
        return [z.detach()[rows.to(z.device)] for z in self.given]


class _Steps(NamedTuple):
    """Accepted steps of some samples."""

    curve: Quartic | HermiteBirkhoffCurve  # their dense output, in the order of the rows
    rows: Tensor  # the samples
    t0: Tensor  # beginning and end of each step, float64 (rows,) on the CPU
    t1: Tensor

    def at(self, x: Tensor, some: Tensor) -> tuple[Tensor, Rows, Tensor]:
        """Times, states and samples at fractions `x` of `some` of the steps, one entry each."""
        return self.t0[some] + x * (self.t1 - self.t0)[some], self.curve.of_rows(some, x), self.rows[some]


class _Turn(NamedTuple):
    """Where an event function has an extremum near 0, or passes through 0 and returns; float64 (rows,) each."""

    since: Tensor  # the fraction of the step at which the interval around the extremum begins
    at: Tensor  # the fraction of the step at the extremum; NaN: none, or none near 0
    value: Tensor  # the event function there


class EventSearch:
    """The state of the search for an event during one solve."""

    def __init__(self, sought: SoughtEvent) -> None:
        self.sought, self.side = sought, sought.side.clone()
        self.nearing = torch.zeros(len(sought.side), dtype=torch.bool)  # the function approached 0 at the end of a step
        self.begins = torch.ones(len(sought.side), dtype=torch.bool)  # True until a step has been searched

    @torch.no_grad()
    def find(self, curve: Quartic | HermiteBirkhoffCurve, rows: Tensor, t0: Tensor, t1: Tensor) -> Tensor:
        """The fraction of the accepted step of each sample at which its event is, float64 (rows,); NaN: no event.

        Args:
            curve: the dense output of these steps, in the order of the rows.
            rows: the samples.
            t0, t1: the beginning and end of their steps, float64 on the CPU.

        Raises:
            SolverFailed: before the event, the function comes so near to 0 that errors hide whether it crosses.
        """
        steps = _Steps(curve, rows, t0, t1)
        fractions = torch.cat([torch.zeros(1, len(rows), dtype=torch.float64), self._checked_fractions(t1 - t0)])
        values = self._values(steps, fractions)
        rounding = ROUNDING * torch.finfo(curve.dtype).eps * values.abs().max(dim=0).values
        turn = self._turn(steps, fractions, values, rounding)
        self.nearing[rows] = values[-1].abs() < values[-2].abs()
        fractions, order = torch.cat([fractions, turn.at.nan_to_num(1.0)[None]]).sort(dim=0, stable=True)
        values = torch.cat([values, torch.where(turn.at.isnan(), values[-1], turn.value)[None]]).gather(0, order)
        root = self._root(steps, fractions, values)
        self._check_turn(steps, values, turn, root, rounding)
        self.begins[rows] = False
        return root

    def _root(self, steps: _Steps, fractions: Tensor, values: Tensor) -> Tensor:
        """The first root, from values at fractions (place, rows) of the steps; updates `side` to the steps' ends."""
        rows, root = steps.rows, torch.full_like(steps.t0, math.nan)
        side, crossed = self.side[rows], torch.full((len(rows),), -1)
        if bool((values[1:].sign() == side).all()):
            return root
        signs = values[1:].sign()
        changes = (signs != torch.cat([side[None], signs[:-1]])) | (signs == 0)
        for place in changes.any(dim=1).nonzero().flatten().tolist():  # elsewhere the event stays on its side
            value = values[place + 1]
            now = torch.where(value == 0, -side, value.sign())  # a value of 0 counts as crossed
            hit = (
                (now != side)
                & (crossed < 0)
                & ((now == self.sought.event.direction) | (not self.sought.event.direction))
            )
            crossed = torch.where(hit, place, crossed)
            side = torch.where(crossed < 0, now, side)
        self.side[rows] = side
        hit = (crossed >= 0).nonzero().flatten()
        if len(hit):
            root[hit] = self._enclosed(steps, hit, fractions[crossed[hit], hit], fractions[crossed[hit] + 1, hit])
        return root

    def _turn(self, steps: _Steps, fractions: Tensor, values: Tensor, rounding: Tensor) -> _Turn:
        sizes, beyond = values.abs(), torch.full_like(values[:1], math.inf)
        before, after = torch.cat([beyond, sizes[:-1]]), torch.cat([sizes[1:], beyond])
        signs = torch.cat([values[1:2], values, values[-2:-1]]).sign()
        lowest = (sizes <= before) & (sizes <= after) & (signs[:-2] * signs[2:] > 0) & (signs[:-2] * signs[1:-1] >= 0)
        inner = before.isfinite() & after.isfinite()
        rise = torch.where(inner, torch.maximum(before, after), torch.minimum(before, after)) - sizes
        ranks = torch.where(lowest & (sizes <= 2 * rise), sizes, math.inf)
        ranks = torch.where(inner, ranks, ranks + sizes.max(dim=0).values)  # at an end it may continue in the next step
        rank, place = ranks.min(dim=0)
        turn = _Turn(*torch.full((3, len(steps.rows)), math.nan, dtype=torch.float64))
        some = rank.isfinite().nonzero().flatten()
        if len(some):
            place, last = place[some], len(fractions) - 1
            low, high = fractions[(place - 1).clamp_min(0), some], fractions[(place + 1).clamp_max(last), some]
            found, value = self._nearest(steps, some, low, high, signs[place, some])
            lower = sizes[[0, -1]][:, some] - value.abs() > rounding[some]  # or rounding makes a turn of an end
            found = torch.where((low > 0) | lower[0], found, 0.0)
            found = torch.where((high < 1) | lower[1], found, 1.0)
            there = (found < 1) & ((found > 0) | self.nearing[steps.rows[some]])
            turn.since[some], turn.at[some], turn.value[some] = low, torch.where(there, found, math.nan), value
        return turn

    def _nearest(self, steps: _Steps, some: Tensor, low: Tensor, high: Tensor, sign: Tensor) -> tuple[Tensor, Tensor]:
        """The fraction from `low` to `high` where sign * event of `some` rows is smallest, and the event's value."""
        parts = torch.arange(CUTS + 1, dtype=torch.float64)[:, None] / CUTS
        for _ in range(TURNS):
            fractions = low + (high - low) * parts
            value, least = (sign * self._values(steps, fractions, some)).min(dim=0, keepdim=True)
            low, high = (fractions.gather(0, (least + i).clamp(0, CUTS))[0] for i in (-1, 1))
        return fractions.gather(0, least)[0], sign * value[0]

    def _check_turn(self, steps: _Steps, values: Tensor, turn: _Turn, root: Tensor, rounding: Tensor) -> None:
        """Raises SolverFailed if an extremum is so near to 0 that errors hide whether the function reaches 0.

        This excludes a function that begins at 0, as after a reset, and stays near it.
        """
        some = (turn.at.isfinite() & ~(root < turn.since)).nonzero().flatten()
        if not len(some):
            return
        t, y, rows = steps.at(turn.at[some], some)
        doubt = self.sought.doubt(t, y, rows) + rounding[some]
        leaves = self.begins[rows] & (turn.since[some] == 0) & (values[0, some].abs() <= doubt)
        self.sought.check_apart(t, turn.value[some].abs(), torch.where(leaves, -1.0, doubt), rows)

    def _checked_fractions(self, lengths: Tensor) -> Tensor:
        """Fractions of the steps at which to evaluate, (place, rows); those of a step do not depend on other steps."""
        counts = torch.full_like(lengths, CHECKS)
        if self.sought.event.longest is not None:
            counts = (lengths.abs() / self.sought.event.longest).ceil().clamp_min(CHECKS)
        if (most := float(counts.max())) > MOST_CHECKS:
            raise RefusedInput(
                f"longest={self.sought.event.longest:g} of an event asks for {most:.3g} places in a step, and "
                f"{MOST_CHECKS:,} are the most. Give a longer one."
            )
        checks = torch.arange(1, int(counts.max()) + 1, dtype=torch.float64)
        return (checks[:, None] / counts).clamp_max(1.0)

    def _enclosed(self, steps: _Steps, hit: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """The first root between `low` and `high`, after which the event function has changed its sign.

        At `low` the function may be 0, as after a reset; only after it has left 0 does it have its sign again.
        """
        side, parts = self.side[steps.rows[hit]], torch.arange(1, CUTS + 1, dtype=torch.float64)[:, None] / CUTS
        for _ in range(ROUNDS):
            fractions = low + (high - low) * parts
            values = self._values(steps, fractions, hit)
            beyond = values.sign() != side
            beyond[-1] = True
            first = beyond.to(torch.int8).argmax(dim=0, keepdim=True)
            low = torch.where(first[0] > 0, fractions.gather(0, (first - 1).clamp_min(0))[0], low)
            high = fractions.gather(0, first)[0]
        return high

    def _values(self, steps: _Steps, fractions: Tensor, some: Tensor | None = None) -> Tensor:
        """The event function at fractions (place, some) of the steps of `some` rows; None: of all rows."""
        some = torch.arange(len(steps.rows)) if some is None else some
        return self.sought.values(*steps.at(fractions.flatten(), some.repeat(len(fractions)))).view(fractions.shape)
