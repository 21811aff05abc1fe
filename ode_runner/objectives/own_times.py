"""The times that a task asks for in each sample, if a batch's solve has the union of those of all samples."""

from dataclasses import dataclass
from typing import Self, final

import torch
from torch import Tensor

from ode_runner.batch import Batch
from ode_runner.types import Times, Trajectory


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class OwnTimes:
    """Limits penalties along a path to a sample's own times, independent of other samples in the batch."""

    ts: Times  # of the batch
    asked: Tensor  # bool, (time, batch); always True at the first time, where the solve begins

    @classmethod
    def of(cls, batch: Batch) -> Self | None:
        """From the mask of a batch; None if all times are asked for in each sample."""
        if batch.observed is None or len(batch.observed) != len(batch.ts):
            return None
        asked = batch.observed.flatten(2).any(dim=2) if batch.observed.dim() > 2 else batch.observed
        return cls(ts=batch.ts, asked=torch.cat([torch.ones_like(asked[:1]), asked[1:]]))

    def at_end(self, ts: Times, values: Tensor) -> Tensor:
        """Values (time, rows) of a forward solve at each row's last own time, or at the end of the solve: (rows,)."""
        numbers = torch.arange(len(ts), device=values.device)[:, None]
        return values.gather(0, self._rows((numbers * self._asked(ts)).amax(dim=0), values)[None])[0]

    def on_own_lines(self, ts: Times, ys: Trajectory) -> Trajectory:
        """States (time, rows, *state), interpolated linearly between a row's own times, constant after the last."""
        numbers, asked = torch.arange(len(ts), device=ys.device)[:, None], self._asked(ts)
        before = (numbers * asked).cummax(dim=0).values
        after = numbers.masked_fill(~asked, len(ts)).flip(0).cummin(dim=0).values.flip(0)
        after = torch.where(after < len(ts), after, before)
        clock = ts.to(ys.device)
        share = ((clock[:, None] - clock[before]) / (clock[after] - clock[before])).masked_fill(after == before, 0.0)
        first, second, part = (self._rows(x, ys) for x in (before, after, share.to(ys.dtype)))
        one, other = (ys.gather(0, _along(places, ys).expand_as(ys)) for places in (first, second))
        return one + _along(part, ys) * (other - one)

    def _asked(self, ts: Times) -> Tensor:
        """Which times of a solve are asked for, (time, batch).

        The batch's own times are identified by position, since a model may rescale them. The first and last time of a
        partial solve count as asked for, unless a sample ends before.
        """
        if len(ts) == len(self.ts):
            return self.asked
        own, ts = self.ts.double(), ts.to(self.ts.device).double()
        places = torch.searchsorted(own, ts).clamp(max=len(own) - 1)
        asked = self.asked[places] & (own[places] == ts)[:, None]
        numbers = torch.arange(len(own), device=own.device)[:, None]
        goes_on = own[(numbers * self.asked).amax(dim=0)] >= ts[-1]
        return torch.cat([torch.ones_like(asked[:1]), asked[1:-1], asked[-1:] | goes_on])

    def _rows(self, of_samples: Tensor, values: Tensor) -> Tensor:
        """Repeats values of samples (..., batch) for the rows of a solve, which may have several states per sample."""
        return torch.cat([of_samples] * max(1, values.shape[1] // of_samples.shape[-1]), dim=-1)


def _along(x: Tensor, ys: Trajectory) -> Tensor:
    """Reshapes (time, rows) to (time, rows, 1, ...), with as many axes as the states have."""
    return x[(...,) + (None,) * (ys.dim() - 2)]
