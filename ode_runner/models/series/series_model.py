"""The base class of models that are driven by the rows of a series."""

import abc
from collections.abc import Sequence
from typing import ClassVar, final

import torch
from torch import Tensor

from ode_runner.devices.transfer import read_times
from ode_runner.encoding import Encoding
from ode_runner.field import VectorField
from ode_runner.models.base import Model
from ode_runner.networks.reading import ReadingNetwork
from ode_runner.problem import Integrate, Solution
from ode_runner.regularizers.depth_varying import EndsWithSeries
from ode_runner.types import Times, Trajectory


class SeriesModel(Model, EndsWithSeries):
    """A model whose state is driven by the rows of a series, from the first (time 0) to the last.

    Solves use the row number, or that of a window of rows, as time. The task's times from 0 to 1 are shares of the rows
    of each series: at 0.5 each has read half of its own, whatever the length of the others in its batch. If outputs are
    asked for at each row, they are row numbers. Before the first row and after the last, the state is constant.
    """

    of_series: ClassVar[bool] = True
    network_type: ClassVar[type] = ReadingNetwork

    def __init__(self, network: ReadingNetwork) -> None:
        super().__init__(network)
        self.causal = network.spec.causal
        self.time_heading = "row" if self.causal else "share_of_rows"

    def intervals(self, *, rows: int) -> int:
        """The number of intervals of a solve through this many rows; one fixed step in each is enough."""
        return int(self.ends(torch.tensor(max(2, rows))))

    @abc.abstractmethod
    def ends(self, lengths: Tensor) -> Tensor:
        """The solver's time at the last row of series with these numbers of rows: the number of intervals before it."""

    def places(self, ts: Times, lengths: Tensor) -> Tensor:
        """The solver's times (time, batch) at shares `ts` of the rows of series; those next to a row are on it."""
        ends = self.ends(lengths).to(ts)
        found = ts.clamp(0, 1)[:, None] * ends
        nearest, rounding = found.round(), 8 * torch.finfo(ts.dtype).eps * ends
        return torch.where((found - nearest).abs() <= rounding, nearest, found)


class SolvedSeriesModel(SeriesModel):
    """A model of series whose state is a solution, from interval to interval between rows."""

    field: VectorField

    def span(self, encoding: Encoding) -> int:
        """The number of intervals of a batch, those of padding included; by default, what is given is for each."""
        return encoding.given[0].shape[1]

    def along(self, y0: Encoding, places: Times, integrate: Integrate) -> Solution:
        """The solution at `places`, which are solver's times, increasing from 0; by default of one equation."""
        return integrate(self.field, y0, places)

    @abc.abstractmethod
    def within(
        self, start: Trajectory, y0: Encoding, interval: Tensor, share: Tensor, integrate: Integrate
    ) -> Trajectory:
        """The states from `start` on over a share (time, batch) of the interval (time, batch), each from 0."""

    @final
    def evolve(self, y0: Encoding, ts: Times, integrate: Integrate) -> Solution:
        span = self.span(y0)
        if not span:  # series of one row
            return Solution(ys=y0.y0.expand(len(ts), *y0.y0.shape))
        if self.causal:
            return self.along(y0, (ts * self.intervals(rows=2)).clamp(0, span), integrate)
        if all(t <= 0 or t >= 1 for t in read_times(ts)):
            return self.along(y0, ts.clamp(0, 1) * span, integrate)
        return Solution(ys=self._at_shares(y0, ts, integrate))

    def _at_shares(self, y0: Encoding, ts: Times, integrate: Integrate) -> Trajectory:
        """The states at shares of the rows of each series.

        All series are solved from interval to interval, and then each over its part of an interval. So the steps of one
        do not end where another is asked for.
        """
        assert y0.lengths is not None
        span, places = self.span(y0), self.places(ts, y0.lengths)
        interval = places.detach().floor().long()
        whole = self.along(y0, torch.arange(span + 1).to(ts), integrate).ys
        start = part_of(whole.transpose(0, 1), interval)
        return self.within(start, y0, interval.clamp(max=span - 1), places - interval, integrate)


def part_of(given: Tensor, interval: Tensor) -> Tensor:
    """The rows (time, batch, ...) of `given` (batch, interval, ...) at `interval` (time, batch)."""
    return given[torch.arange(len(given), device=given.device), interval]


def flow_over(field: VectorField, start: Trajectory, given: Sequence[Tensor], integrate: Integrate) -> Trajectory:
    """The states at time 1 of the field, from `start` (time, batch, *state), given (time, batch, ...)."""
    encoding = Encoding(start.flatten(0, 1), given=[z.flatten(0, 1) for z in given])
    ends = integrate(field, encoding, start.new_tensor([0.0, 1.0])).ys[-1]
    return ends.unflatten(0, start.shape[:2])
