"""All outputs of a solve at once, and the way back from them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ode_runner.solvers.one_step import Interval, Step
from ode_runner.solvers.tableau import Tableau
from ode_runner.types import State


class Outputs:
    """Where the output times after the first lie: at the end of a step, or within one.

    An output within is the state that its step begins with plus a sum over its derivatives, so one product with
    `weights` (output, stage and f1) makes them all, instead of a few operations for each.
    """

    def __init__(self, tableau: Tableau, course: Sequence[Interval], y0: State) -> None:
        self.shape, self.steps = y0.shape, len(course)
        number = {i: k for k, i in enumerate(i for i, place in enumerate(course) if place.dense)}
        self.dense, self.rows = len(number), tableau.stages + 1
        places = [(i, place, t) for i, place in enumerate(course) for t in place.due]
        self.at_end = [t == place.t1 for _, place, t in places]
        ends = [2 * i + end for (i, _, _), end in zip(places, self.at_end, strict=True)]
        self.ends = torch.tensor(ends, device=y0.device)
        if self.dense:
            self.number = torch.tensor([number.get(i, 0) for i, _, _ in places], device=y0.device)
            zeros = [0.0] * self.rows
            within = [(place.t1 - place.t0, tableau.within(place.fraction(t))) for _, place, t in places]
            rows = [zeros if end else [dt * w for w in ws] for (dt, ws), end in zip(within, self.at_end, strict=True)]
            self.weights = y0.new_tensor(rows)

    def values(self, due: Sequence[Step]) -> Tensor:
        """(output, batch, *state) from the steps in which there are any."""
        owners = [step for step in due for _ in step.due]
        begin = torch.stack([step.y1 if end else step.y0 for step, end in zip(owners, self.at_end, strict=True)])
        if not self.dense:
            return begin
        ks = torch.stack([k for step in due if step.dense for k in (*step.ks, step.f1) if k is not None])
        each = ks.view(self.dense, self.rows, -1)[self.number]
        return torch.baddbmm(begin.view(len(begin), 1, -1), self.weights[:, None], each).view_as(begin)

    def pull_back(self, dys: Tensor) -> tuple[Tensor, Tensor]:
        """What reaches the states at both ends of every step, and the derivatives of those with outputs within.

        (step, 2, batch, *state) and (step with outputs within, stage and f1, batch, *state).
        """
        to_ends = dys.new_zeros(2 * self.steps, *self.shape).index_add_(0, self.ends, dys)
        to_ks = dys.new_zeros(self.dense, self.rows, *self.shape)
        if self.dense:
            weights = self.weights.view(*self.weights.shape, *[1] * len(self.shape))
            to_ks.index_add_(0, self.number, weights * dys[:, None])
        return to_ends.view(self.steps, 2, *self.shape), to_ks
