"""Collects the results of the solves from event to event."""

from dataclasses import replace

import torch
from torch import Tensor

from ode_runner.event import Events
from ode_runner.fields.ledger import EachSample
from ode_runner.problem import Solution, with_steps_of
from ode_runner.types import Rows, State, Trajectory


class FoundEvents:
    """Outputs and events of a batch so far, and the solves that found them.

    Args:
        y0: the initial state, which is the output at the first time.
        times: output times, float64 (time,) on the CPU.
        sign: 1 if times increase, -1 if they decrease.
    """

    def __init__(self, y0: State, times: Tensor, sign: float) -> None:
        self.y0, self.times, self.sign, self.batch = y0, times, sign, len(y0)
        self.ys = torch.stack([y0] * len(times))
        self.counts = torch.zeros(self.batch, dtype=torch.int64)  # events of each sample
        self.ends = torch.full((self.batch,), torch.inf, dtype=torch.float64)  # end times of samples that have ended
        self.events = list[tuple[Tensor, Tensor, Tensor, Rows]]()  # number, sample, time, state
        self.solutions = list[tuple[Tensor, Solution]]()  # samples, and their solve

    def put(self, ys: Trajectory, place: int) -> None:
        """Store outputs of a single sample, from the output with index `place` on."""
        if len(ys):
            self._put(torch.arange(len(ys)) + place, torch.zeros(len(ys), dtype=torch.int64), ys[:, 0])

    def put_each(self, samples: Tensor, start: Tensor, stops: Tensor, ys: Trajectory) -> None:
        """Store the outputs of `samples` after their starts, up to their stops; NaN: no stop."""
        times = self.sign * self.times[:, None]
        reached = (times > self.sign * start) & ~(times > self.sign * stops)
        indices, columns = reached.nonzero(as_tuple=True)
        self._put(indices, samples[columns], ys[indices.to(ys.device), columns.to(ys.device)])

    def note(self, samples: Tensor, time: Tensor, state: Rows) -> None:
        """Add one event of each of these samples."""
        self.events.append((self.counts[samples], samples, time, state))
        self.counts[samples] += 1

    def hold(self, samples: Tensor, t: Tensor, states: Rows) -> None:
        """Set the outputs of `samples` after the times `t` to these states."""
        if not len(samples):
            return
        self.ends[samples] = self.sign * t
        indices, rows = (self.sign * self.times[:, None] > self.sign * t).nonzero(as_tuple=True)
        self._put(indices, samples[rows], states[rows.to(states.device)])

    def _put(self, indices: Tensor, samples: Tensor, states: Rows) -> None:
        device = self.ys.device
        self.ys = self.ys.index_put((indices.to(device), samples.to(device)), states)

    def solution(self, *, each: bool) -> Solution:
        """The whole solution. `each`: every sample had its own steps."""
        most, y0 = int(self.counts.max()) if self.batch else 0, self.y0
        times, states = y0.new_full((most, self.batch), torch.nan), y0.new_full((most, *y0.shape), torch.nan)
        for number, samples, time, state in self.events:
            place = (number.to(y0.device), samples.to(y0.device))
            times, states = times.index_put(place, time), states.index_put(place, state)
        valid = (self.sign * self.times[:, None] <= self.ends).to(y0.device)
        whole = Solution(ys=self.ys, events=Events(times=times, states=states, valid=valid))
        return self._with_each(whole) if each else with_steps_of(whole, [solution for _, solution in self.solutions])

    def _with_each(self, whole: Solution) -> Solution:
        """The solution with each sample's counts; its steps are those of the sample with the most attempts."""
        evaluations, accepted, rejected = (torch.zeros(self.batch, dtype=torch.int64) for _ in range(3))
        for samples, solution in self.solutions:
            if solution.each is not None:
                evaluations[samples] += solution.each.evaluations + 1  # one at the beginning
                accepted[samples] += solution.each.accepted
                rejected[samples] += solution.each.rejected
        each = EachSample(evaluations=evaluations + self.counts, accepted=accepted, rejected=rejected, failures={})
        most_accepted, most_rejected = each.most_attempts()
        return replace(whole, each=each, accepted=most_accepted, rejected=most_rejected)
