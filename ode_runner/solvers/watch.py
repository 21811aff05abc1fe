"""Looking for an event within accepted steps, along their dense output."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ode_runner.errors import SolverFailed
from ode_runner.event import Event
from ode_runner.solvers.dense_output import HermiteBirkhoffCurve, Quartic
from ode_runner.types import Rows

PLACES = 8  # of a step, at which an event is looked at; its `longest` may ask for more
CUTS, ROUNDS = 16, 12  # a root is enclosed by cutting the interval that has it into so many parts, so many times


@dataclass(frozen=True, kw_only=True, eq=False)
class Watch:
    """An event that is looked for along one solve, the first of which of every sample ends that."""

    event: Event
    given: Sequence[Tensor]  # what the event takes after time and state, a row for every sample
    side: Tensor  # float64 (batch,), on the CPU: 1 or -1, the side of 0 on which the solve begins
    sign: float  # 1 where time increases, -1 where it decreases
    numbers: Sequence[int]  # of the samples, in the batch that somebody has asked for
    batch: int  # how many there are in that
    sizes: Tensor | None = None  # float64 (batch,): of first steps; None: chosen

    def corrected(self, t: Tensor, y: Rows, dy: Rows, rows: Tensor, within: tuple[Tensor, Tensor]) -> Tensor:
        """Newton's next guess of a root, float64 (rows,), from the slope `dy` at (t, y); it stays within the step."""
        c, rate = self.event.rate(t.to(y), y, dy, self._given(rows))
        better = t - (c.cpu().double() / rate.cpu().double())
        better = torch.where(better.isfinite(), better, t)
        low, high = torch.minimum(*within), torch.maximum(*within)
        return torch.minimum(torch.maximum(better, low), high)

    def values(self, t: Tensor, y: Rows, rows: Tensor) -> Tensor:
        """The event of some samples, float64 (rows,) on the CPU."""
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


class Search:
    """What is known of an event during one solve."""

    def __init__(self, watch: Watch) -> None:
        self.watch, self.side = watch, watch.side.clone()

    @torch.no_grad()
    def find(self, curve: Quartic | HermiteBirkhoffCurve, rows: Tensor, t0: Tensor, t1: Tensor) -> Tensor:
        """Where in accepted steps of samples `rows` the event is, float64 (rows,) from 0 to 1; NaN: nowhere.

        Args:
            curve: the dense output of these steps, in the order of the rows.
            rows: samples.
            t0, t1: where their steps begin and end, float64 on the CPU.
        """
        fractions = self._places(t1 - t0)
        values = self._values(curve, rows, t0, t1, fractions)
        side, crossed = self.side[rows], torch.full((len(rows),), -1)
        root = torch.full((len(rows),), math.nan, dtype=torch.float64)
        if bool((values.sign() == side).all()):
            return root
        for place, value in enumerate(values):
            now = torch.where(value == 0, -side, value.sign())  # at 0 it is no longer where it was
            hit = (
                (now != side) & (crossed < 0) & ((now == self.watch.event.direction) | (not self.watch.event.direction))
            )
            crossed = torch.where(hit, place, crossed)
            side = torch.where(crossed < 0, now, side)
        self.side[rows] = side
        hit = (crossed >= 0).nonzero().flatten()
        if len(hit):
            every = torch.cat([torch.zeros(1, len(rows), dtype=torch.float64), fractions])
            low, high = every[crossed[hit], hit], every[crossed[hit] + 1, hit]
            root[hit] = self._enclosed(curve, rows, t0, t1, hit, low, high)
        return root

    def _places(self, lengths: Tensor) -> Tensor:
        """Fractions of the steps at which to look, (place, rows); those of a step depend on no other."""
        counts = torch.full_like(lengths, PLACES)
        if self.watch.event.longest is not None:
            counts = (lengths.abs() / self.watch.event.longest).ceil().clamp_min(PLACES)
        places = torch.arange(1, int(counts.max()) + 1, dtype=torch.float64)
        return (places[:, None] / counts).clamp_max(1.0)

    def _enclosed(
        self,
        curve: Quartic | HermiteBirkhoffCurve,
        rows: Tensor,
        t0: Tensor,
        t1: Tensor,
        hit: Tensor,
        low: Tensor,
        high: Tensor,
    ) -> Tensor:
        """The first root between `low` and `high`, beyond which the event has changed its side.

        At `low` it may be 0, as at a reset: then only where it has left that is it on its side again.
        """
        side, parts = self.side[rows[hit]], torch.arange(1, CUTS + 1, dtype=torch.float64)[:, None] / CUTS
        for _ in range(ROUNDS):
            fractions = low + (high - low) * parts
            values = self._values(curve, rows, t0, t1, fractions, hit)
            beyond = values.sign() != side
            beyond[-1] = True
            first = beyond.to(torch.int8).argmax(dim=0, keepdim=True)
            low = torch.where(first[0] > 0, fractions.gather(0, (first - 1).clamp_min(0))[0], low)
            high = fractions.gather(0, first)[0]
        return high

    def _values(
        self,
        curve: Quartic | HermiteBirkhoffCurve,
        rows: Tensor,
        t0: Tensor,
        t1: Tensor,
        fractions: Tensor,
        some: Tensor | None = None,
    ) -> Tensor:
        """The event at fractions (place, some) of the steps of `some` rows, all unless told otherwise."""
        some = torch.arange(len(rows)) if some is None else some
        each = some.repeat(len(fractions))
        x = fractions.flatten()
        t = t0[each] + x * (t1 - t0)[each]
        y = curve.of_rows(each, x)
        return self.watch.values(t, y, rows[each]).view(fractions.shape)
