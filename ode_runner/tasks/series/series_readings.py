"""Windows of series: a model reads their first rows and gives outputs for all rows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple, Self

import torch
from torch import Tensor
from torch.nn.functional import pad

from ode_runner.batch import Split
from ode_runner.tasks.series.series_samples import Measured, rows_of
from ode_runner.tasks.series.series_splits import Piece, SeriesSplits


@dataclass(frozen=True, kw_only=True, eq=False)
class ReadingSplits:
    """The windows of each split: pieces that begin at the first row read, and are scored after the last row read.

    Rows that are held back are forecast from those before them. Series that are held back are forecast in steps as long
    as in a window, so that each row is forecast once. The number of rows read is at most that of the longest training
    window.
    """

    splits: SeriesSplits
    observed: float  # the share of a window's rows that is read

    most: int = 0  # largest number of rows that a model has learned to read

    @classmethod
    def learned(cls, splits: SeriesSplits, *, observed: float) -> Self:
        """The splits, with the number of rows read limited to that of the longest training window."""
        windows = cls(splits=splits, observed=observed)
        most = max(piece.scored - piece.begin for piece in windows.pieces(Split.TRAIN))
        return replace(windows, most=most)

    def pieces(self, split: Split) -> list[Piece]:
        part = {Split.TRAIN: 0.0, Split.VALIDATION: self.splits.validation, Split.TEST: self.splits.test}[split]
        series = self.splits.parts[split]
        if split is Split.TRAIN:
            return [self._piece(p.series, p.begin, p.stop) for i in series for p in self.splits.windows(i)]
        if part and self.splits.by == "time":
            return [self._held_back(i, split) for i in series]
        return [piece for i in series for piece in self._one_after_another(i)]

    def before(self, number: int, stop: int) -> Piece:
        """The rows of a series that are read for a forecast from row `stop` on; row `stop` itself is not read."""
        return Piece(number, max(0, stop - self.most), stop, stop, stop)

    def _held_back(self, number: int, split: Split) -> Piece:
        ends = self.splits.ends[number]
        scored, stop = (ends.train, ends.validation) if split is Split.VALIDATION else (ends.validation, ends.test)
        return self.before(number, scored)._replace(stop=stop)

    def _one_after_another(self, number: int) -> list[Piece]:
        end = self.splits.ends[number].train
        first = self._piece(number, 0, min(self.splits.window or end, end))
        length = first.stop - first.scored
        starts = range(first.scored, end, length) if end > 1 else ()
        return [self.before(number, scored)._replace(stop=min(scored + length, end)) for scored in starts]

    def _piece(self, number: int, begin: int, stop: int) -> Piece:
        rows = stop - begin
        scored = begin + min(max(1, round(self.observed * rows)), rows - 1)
        return Piece(number, begin, stop, scored, scored)


class Readings(NamedTuple):
    """Windows, padded to the length of the longest."""

    inputs: Tensor  # (windows, rows, columns + 2), as `Series.rows` makes them
    times: Tensor  # (windows, rows), from 0
    values: Tensor  # (windows, rows, columns), 0 if unknown
    known: Tensor  # (windows, rows, columns), bool
    asked: Tensor  # (windows, rows), bool: rows after those that are read
    real: Tensor  # (windows, rows), bool: False for padding

    def to(self, device: torch.device) -> "Readings":
        dtype = torch.float32 if device.type == "mps" else torch.float64  # mps has no float64
        return Readings(*(part.to(device, dtype if part.is_floating_point() else None) for part in self))


def readings_of(pieces: Sequence[Piece], series: Sequence[Measured], *, most: int, causal: bool) -> Readings:
    """The rows of the pieces, with times counted from the first row of each; at most `most` of them are read.

    `causal`: the inputs also contain the rows that are asked for, with their times but without values.
    """
    times, values, real = rows_of(pieces, series, first=[piece.begin for piece in pieces])
    rows = times.shape[1]
    read = torch.arange(rows) < torch.tensor([piece.scored - piece.begin for piece in pieces])[:, None]
    given = real if causal else read
    seen = values.masked_fill(~read[..., None], math.nan).masked_fill(~given[..., None], 0.0)
    inputs = torch.cat([seen, torch.where(given, times, 0.0)[..., None], given[..., None].to(seen)], dim=-1)
    width = rows if causal else most  # networks without recurrence need a fixed number of rows
    inputs = pad(inputs[:, :width], (0, 0, 0, max(0, width - rows)))
    return Readings(inputs, times, values.nan_to_num(0.0), ~values.isnan(), real & ~read, real)


def rows_up_to(times: Tensor, *, start: float, longest: float) -> tuple[Tensor, list[int]]:
    """Increasing `times` after `start`, with others inserted so that no gap exceeds `longest`; and their positions."""
    found, places = list[float](), list[int]()
    for before, time in pairwise([start, *times.tolist()]):
        count = max(1, math.ceil((time - before) / longest))
        found += [before + (time - before) * k / count for k in range(1, count)] + [time]
        places.append(len(found) - 1)
    return torch.tensor(found, dtype=torch.float64), places
