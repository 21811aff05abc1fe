"""The time, step size and counts of each sample in a solve with separate steps."""

from collections import deque

import torch
from torch import Tensor

from ode_runner.solvers.sample_step import Attempt, Due
from ode_runner.solvers.step_control import RowControllers, StepControl

OF_ROWS = ("active", "sign", "along", "t", "end", "dt", "next", "upcoming", "row_accepted", "row_rejected")


class SampleClocks:
    """Times, step sizes and counts. A row is a sample that has not finished; `active` holds the samples of the rows.

    All are float64 on the CPU, whatever the states are, because the loop branches on them. `accepted`, `rejected` and
    `served` hold the final counts of all samples.
    """

    def __init__(self, times: Tensor, options: StepControl, *, order: int) -> None:
        along = times.detach().cpu().double().T.contiguous()  # (batch, time)
        sign = (along[:, -1] - along[:, 0]).sign()
        self.accepted, self.rejected = (torch.zeros(len(along), dtype=torch.int64) for _ in range(2))
        self.served = torch.ones(len(along), dtype=torch.int64)
        self.ahead = torch.zeros(len(along), dtype=torch.float64)  # step sizes after the end
        self.resting = (sign == 0).nonzero().flatten()
        self.active = sign.nonzero().flatten()
        self.sign = sign[self.active]
        self.along = along[self.active] * self.sign[:, None]  # increasing
        self.t, self.end = along[self.active, 0], along[self.active, -1]
        self.dt = torch.zeros_like(self.t)
        self.next = (self.along == self.along[:, :1]).sum(dim=1)  # index of the next output time
        self.upcoming = self._upcoming()
        self.row_accepted, self.row_rejected = (torch.zeros_like(self.active) for _ in range(2))  # counts of the rows
        self.attempts = 0  # number of rounds, an upper bound of any row's attempts
        self.recent: deque[tuple[Tensor, Tensor]] = deque(maxlen=5)  # samples and their attempted step sizes
        self.controls = RowControllers(options, order=order, rows=len(self.active))

    def begin(self, sizes: Tensor) -> None:
        """Set the first step sizes (rows,)."""
        self.dt = self.controls.first(sizes)

    def attempt(self) -> Attempt:
        """The next step of every row; a step that nearly reaches the end is extended to it."""
        left = (self.end - self.t).abs()
        last = self.dt > 0.99 * left
        self.dt = torch.where(last, left, self.dt)
        return Attempt(t0=self.t, t1=torch.where(last, self.end, self.t + self.sign * self.dt))

    def failed(self, attempt: Attempt, *, max_steps: int) -> Tensor | None:
        """Rows that cannot reach the end of their span, bool (rows,); None if there are none."""
        rows = attempt.t1 == attempt.t0
        if self.controls.stuck is not None:
            rows = rows | self.controls.stuck
        if self.attempts >= max_steps:
            rows = rows | (self.row_accepted + self.row_rejected == max_steps)
        return rows if bool(rows.any()) else None

    def judge(self, attempt: Attempt, errors: Tensor, judged: Tensor | None = None) -> Tensor:
        """Accept or reject the attempts of all rows, by `errors` in units of the tolerance; accepted rows advance.

        Returns which are accepted, bool (rows,). If `judged` is given, the other rows do not change.
        """
        self.attempts += 1
        accepted = errors <= 1
        if judged is None:
            self.recent.append((self.active, self.dt))
            self.dt = self.controls.next(self.dt, errors)
            self.row_rejected = self.row_rejected + ~accepted
        else:
            accepted = accepted & judged
            rows = judged.nonzero().flatten()
            self.recent.append((self.active[rows], self.dt[rows]))
            some = self.controls.of(rows)
            self.dt = self.dt.index_put((rows,), some.next(self.dt[rows], errors[rows]))
            self.controls.put(rows, some)
            self.row_rejected = self.row_rejected + (judged & ~accepted)
        self.row_accepted = self.row_accepted + accepted
        self.t = torch.where(accepted, attempt.t1, attempt.t0)
        return accepted

    def due(self, attempt: Attempt, accepted: Tensor) -> Due | None:
        """The output times within the accepted steps of an attempt; None if there are none."""
        reached = self.sign * self.t
        ready = accepted & (reached >= self.upcoming)
        if not bool(ready.any()):
            return None
        after = torch.searchsorted(self.along, reached[:, None], right=True).flatten()
        counts = torch.where(ready, after - self.next, 0)
        rows = torch.arange(len(counts)).repeat_interleave(counts)
        indices = torch.arange(len(rows)) + (self.next - counts.cumsum(0) + counts)[rows]
        self.next = self.next + counts
        self.upcoming = self._upcoming()
        t = (self.sign[:, None] * self.along)[rows, indices]
        fraction = (t - attempt.t0[rows]) / (attempt.t1 - attempt.t0)[rows]
        within = t != attempt.t1[rows]
        order = within.to(torch.int8).argsort(stable=True)
        return Due(
            rows=rows[order],
            samples=self.active[rows[order]],
            time_indices=indices[order],
            fraction=fraction[order],
            ends=len(rows) - int(within.sum()),
        )

    def stop(self, rows: Tensor, t: Tensor) -> None:
        """End the span of `rows` at `t`, which they have reached; later outputs are due there."""
        self.t, self.end = self.t.index_put((rows,), t), self.end.index_put((rows,), t)
        ends = (self.sign[rows] * t)[:, None]
        self.along = self.along.index_put((rows,), torch.minimum(self.along[rows], ends))
        self.upcoming = self._upcoming()

    def leave(self, gone: Tensor) -> Tensor:
        """Remove rows; returns the indices of the rows that are left."""
        samples = self.active[gone]
        self.accepted[samples], self.rejected[samples] = self.row_accepted[gone], self.row_rejected[gone]
        self.served[samples], self.ahead[samples] = self.next[gone], self.dt[gone]
        left = (~gone).nonzero().flatten()
        for name in OF_ROWS:
            setattr(self, name, getattr(self, name)[left])
        self.controls = self.controls.of(left)
        return left

    def _upcoming(self) -> Tensor:
        """The next output time of each row; the last one if all have been reached."""
        return self.along.gather(1, self.next.clamp_max(self.along.shape[1] - 1)[:, None]).flatten()

    def arrived(self) -> Tensor:
        """Whether each row has reached the end of its span."""
        return self.t == self.end

    def last_sizes(self, sample: int) -> list[float]:
        """The sizes of the sample's last attempts, oldest first."""
        return [float(size) for samples, sizes in self.recent for size in sizes[samples == sample]]
