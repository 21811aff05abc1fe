"""Where each sample of a batch stands in a time of its own."""

from collections import deque

import torch
from torch import Tensor

from ode_runner.solvers.sample_step import Attempt, Due
from ode_runner.solvers.step_control import Controller, StepControl


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
        self.size = torch.zeros_like(self.t)  # of the attempt under way
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
        self.size[self.alive] = torch.where(last, left, dt)
        return Attempt(t0=t, t1=torch.where(last, end, t + self.sign[self.alive] * dt))

    def hopeless(self, attempt: Attempt, *, max_steps: int) -> Tensor:
        """Rows that will not reach the end of their span."""
        stuck = torch.tensor([self.controls[i].stuck for i in self.alive.tolist()], dtype=torch.bool)
        return (attempt.t1 == attempt.t0) | stuck | (self.attempts[self.alive] == max_steps)

    def judge(self, attempt: Attempt, errors: Tensor, judged: Tensor) -> Tensor:
        """Which of the `judged` rows are accepted, by `errors` in units of the tolerance; they move on."""
        accepted = (errors <= 1) & judged
        samples = self.alive[judged]
        tried = zip(self.size[samples].tolist(), errors[judged].tolist(), strict=True)
        sizes = [self.controls[i].next(dt, error) for i, (dt, error) in zip(samples.tolist(), tried, strict=True)]
        self.dt[samples] = torch.tensor(sizes, dtype=torch.float64)
        self.accepted[self.alive] += accepted
        self.rejected[self.alive] += judged & ~accepted
        self.t[self.alive] = torch.where(accepted, attempt.t1, attempt.t0)
        recent = torch.full_like(self.t, torch.nan)
        recent[samples] = self.size[samples]
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
        within = t != attempt.t1[rows]
        order = within.to(torch.int8).argsort(stable=True)
        return Due(
            rows=rows[order],
            samples=alive[rows[order]],
            places=places[order],
            fraction=fraction[order],
            ends=len(rows) - int(within.sum()),
        )

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
