"""Where each sample of a batch stands in a time of its own."""

from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor

from ode_runner.solvers.step_control import Controller, StepControl
from ode_runner.types import State


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """A step of each sample on its way, from `t0` to `t1`, float64 (rows,) on the CPU."""

    t0: Tensor
    t1: Tensor
    size: Tensor  # |t1 - t0|, as step control asked for it

    def times(self, nodes: tuple[float, ...], like: State) -> list[Tensor]:
        """The stages' times (rows,) as the field takes them; those of node 1 are `t1` itself, whatever its rounding."""
        t0, t1, c = self.t0[:, None], self.t1[:, None], torch.tensor(nodes, dtype=torch.float64)
        return list(torch.where(c > 1 - 1e-9, t1, t0 + c * (t1 - t0)).to(like).unbind(1))

    def length(self, like: State) -> Tensor:
        """t1 - t0, to multiply states with."""
        return along_rows(self.t1 - self.t0, like)


@dataclass(frozen=True, kw_only=True)
class Due:
    """Output times that a round of steps serves."""

    rows: Tensor  # of the attempt
    samples: Tensor
    places: Tensor  # among the output times
    fraction: Tensor  # of the step, float64; 1 exactly at its end


class SampleClocks:
    """Times, step sizes and counts of all samples; a row is one of the `alive`, those that are still on their way.

    Kept in float64 on the CPU, whatever the states are: it is what the loop decides by.
    """

    def __init__(self, times: Tensor, options: StepControl, *, order: int) -> None:
        along = times.detach().cpu().double().T.contiguous()  # (batch, time)
        self.sign = (along[:, -1] - along[:, 0]).sign()
        self.along = along * self.sign[:, None]  # increasing
        self.t, self.end = along[:, 0].clone(), along[:, -1]
        self.dt = torch.zeros_like(self.t)
        self.accepted, self.rejected = (torch.zeros(len(along), dtype=torch.int64) for _ in range(2))
        self.served = torch.ones(len(along), dtype=torch.int64)
        self.recent: deque[Tensor] = deque(maxlen=5)  # sizes attempted, NaN where there was no attempt
        self.controls = [Controller(options, order=order) for _ in along]
        self.alive = self.sign.nonzero().flatten()

    @property
    def attempts(self) -> Tensor:
        return self.accepted + self.rejected

    def begin(self, sizes: list[float]) -> None:
        """Take up the first step sizes of the samples alive."""
        first = [self.controls[i].first(dt) for i, dt in zip(self.alive.tolist(), sizes, strict=True)]
        self.dt[self.alive] = torch.tensor(first, dtype=torch.float64)

    def attempt(self) -> Attempt:
        """The next step of every sample alive; no sliver is left for a last one."""
        t, dt, end = self.t[self.alive], self.dt[self.alive], self.end[self.alive]
        left = (end - t).abs()
        last = dt > 0.99 * left
        size = torch.where(last, left, dt)
        return Attempt(t0=t, t1=torch.where(last, end, t + self.sign[self.alive] * dt), size=size)

    def hopeless(self, attempt: Attempt, *, max_steps: int) -> Tensor:
        """Rows that will not reach the end of their span."""
        stuck = torch.tensor([self.controls[i].stuck for i in self.alive.tolist()], dtype=torch.bool)
        return (attempt.t1 == attempt.t0) | stuck | (self.attempts[self.alive] == max_steps)

    def judge(self, attempt: Attempt, errors: Tensor, judged: Tensor) -> Tensor:
        """Which of the `judged` rows are accepted, by `errors` in units of the tolerance; they move on."""
        accepted = (errors <= 1) & judged
        samples, tried = self.alive[judged], zip(attempt.size[judged].tolist(), errors[judged].tolist(), strict=True)
        sizes = [self.controls[i].next(dt, error) for i, (dt, error) in zip(samples.tolist(), tried, strict=True)]
        self.dt[samples] = torch.tensor(sizes, dtype=torch.float64)
        self.accepted[self.alive] += accepted
        self.rejected[self.alive] += judged & ~accepted
        self.t[self.alive] = torch.where(accepted, attempt.t1, attempt.t0)
        recent = torch.full_like(self.t, torch.nan)
        recent[samples] = attempt.size[judged]
        self.recent.append(recent)
        return accepted

    def due(self, attempt: Attempt) -> Due:
        """Output times between where each sample stood before the attempt and where it stands now."""
        alive, before = self.alive, self.served[self.alive]
        reached = (self.sign * self.t)[alive, None]
        after = torch.searchsorted(self.along[alive], reached, right=True).flatten().clamp_min(1)
        counts = torch.where(self.t[alive] == attempt.t1, after - before, 0)
        self.served[alive] += counts
        rows = torch.arange(len(alive)).repeat_interleave(counts)
        places = torch.arange(len(rows)) + (before - counts.cumsum(0) + counts)[rows]
        t = (self.sign[:, None] * self.along)[alive[rows], places]
        fraction = (t - attempt.t0[rows]) / (attempt.t1 - attempt.t0)[rows]
        return Due(rows=rows, samples=alive[rows], places=places, fraction=fraction)

    def leave(self, gone: Tensor) -> Tensor:
        """Take rows off the list; returns which of the old rows are left."""
        left = (~gone).nonzero().flatten()
        self.alive = self.alive[left]
        return left

    def arrived(self) -> Tensor:
        """Rows that stand at the end of their span."""
        return self.t[self.alive] == self.end[self.alive]

    def last_sizes(self, sample: int) -> list[float]:
        """Its last attempts, oldest first."""
        return [size for sizes in self.recent if (size := float(sizes[sample])) == size]


def along_rows(values: Tensor, like: State) -> Tensor:
    """One number for each row, in the type of a state and shaped to be multiplied with it."""
    return values.to(like).view(-1, *[1] * (like.dim() - 1))
