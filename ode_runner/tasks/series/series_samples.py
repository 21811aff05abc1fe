"""Pieces of series as tensors, in the model's units."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ode_runner.errors import RefusedInput
from ode_runner.tasks.series.series_file import Recorded, SeriesFile
from ode_runner.tasks.series.series_scaling import Scaling
from ode_runner.tasks.series.series_splits import Piece

GRAIN = 2.0**-30  # units of time: times of two windows with a smaller (rounding) difference count as equal


@dataclass(frozen=True, eq=False)
class Measured:
    """A series in the model's units, float64."""

    times: Tensor  # (points,), from 0; rows with at least one value
    values: Tensor  # (points, columns), NaN where blank
    knots: list[Tensor]  # (knots, 2) for each input: time and value


def in_units(one: Recorded, whole: Recorded, scales: Scaling, read: SeriesFile) -> Measured:
    """A series in the units of `scales`.

    Args:
        one: its rows with values.
        whole: all its rows, including those with inputs only.
        scales: the units.
        read: its file, for messages.

    Raises:
        RefusedInput: the times of two rows are too close to be distinguished, or an input has no value.
    """
    unit, origin = float(scales.unit), one.times[0]
    times = _rounded((one.times - origin) / unit)
    close = np.diff(times) <= 0
    if close.any():
        place = int(close.argmax())
        raise RefusedInput(
            f"{read.path}, rows {one.rows[place]} and {one.rows[place + 1]}, column '{read.time}': their times are too "
            "close together for a series of this length. Keep one of them."
        )
    clock = torch.from_numpy(_rounded((whole.times - origin) / unit))
    inputs = scales.scaled_inputs(whole.inputs)
    knots = [torch.stack([clock, u], dim=-1)[~u.isnan()] for u in inputs.T]
    for name, own in zip(read.inputs, knots, strict=True):
        if not len(own):
            raise RefusedInput(f"{read.path}, column '{name}': an input without a value in series {one.name}.")
    return Measured(torch.from_numpy(times), scales.scaled(one.values), knots)


def _rounded(times: np.ndarray) -> np.ndarray:
    return np.round(times / GRAIN) * GRAIN


class Samples(NamedTuple):
    """Pieces, padded to the length of the longest."""

    inputs: Tensor  # (samples, columns + 1 + inputs * knots * 2)
    times: Tensor  # (samples, rows), from 0
    values: Tensor  # (samples, rows, columns), 0 if unknown
    known: Tensor  # (samples, rows, columns), bool
    real: Tensor  # (samples, rows), bool: False for padding

    def to(self, device: torch.device) -> "Samples":
        dtype = torch.float32 if device.type == "mps" else torch.float64  # mps has no float64
        return Samples(*(part.to(device, dtype if part.is_floating_point() else None) for part in self))


def samples_of(pieces: Sequence[Piece], series: Sequence[Measured]) -> Samples:
    """The rows of the pieces that are scored, with times counted from the first row of each."""
    times, values, real = rows_of(pieces, series, first=[piece.scored for piece in pieces])
    inputs = inputs_of(pieces, series, spans=times.amax(dim=1).tolist())
    return Samples(inputs, times, values.nan_to_num(0.0), ~values.isnan(), real)


def rows_of(
    pieces: Sequence[Piece], series: Sequence[Measured], *, first: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Times, values and which rows are no padding, of the rows of the pieces from their `first` ones on.

    Times (pieces, rows) count from the beginning of a piece and are 0 in padding, where values (pieces, rows, columns)
    are NaN. All are gathered at once: a file may have a hundred thousand pieces.
    """
    offsets = torch.tensor([0, *(len(one.times) for one in series)]).cumsum(dim=0)
    numbers, begins, stops = (torch.tensor(part) for part in zip(*(p[:3] for p in pieces), strict=True))
    firsts = torch.tensor(first)
    places = torch.arange(int((stops - firsts).max()))
    real = places < (stops - firsts)[:, None]
    rows = torch.where(real, (offsets[numbers] + firsts)[:, None] + places, 0)
    times, values = torch.cat([one.times for one in series]), torch.cat([one.values for one in series])
    since = times[rows] - times[offsets[numbers] + begins][:, None]
    return since.masked_fill(~real, 0.0), values[rows].masked_fill(~real[..., None], math.nan), real


def inputs_of(pieces: Sequence[Piece], series: Sequence[Measured], *, spans: Sequence[float]) -> Tensor:
    """State, index of the series, and knots (samples, columns + 1 + inputs * knots * 2), for solves over `spans`."""
    starts = torch.stack([_start(piece, series[piece.series]) for piece in pieces])
    numbers = torch.tensor([[float(piece.series)] for piece in pieces], dtype=torch.float64)
    if not series[0].knots:
        return torch.cat([starts, numbers], dim=1)
    knots = [
        _between(own, float(series[piece.series].times[piece.begin]), span)
        for piece, span in zip(pieces, spans, strict=True)
        for own in series[piece.series].knots
    ]
    longest = max(map(len, knots))
    filled = torch.stack([torch.cat([own, own[-1:].expand(longest - len(own), 2)]) for own in knots])
    return torch.cat([starts, numbers, filled.view(len(pieces), -1)], dim=1)


def _start(piece: Piece, own: Measured) -> Tensor:
    """The initial values (columns,): those of the first row, where they are known, or interpolated from known rows."""
    if piece.begin < piece.known and not (row := own.values[piece.begin]).isnan().any():
        return row
    time, clock, values = float(own.times[piece.begin]), own.times[: piece.known], own.values[: piece.known]
    at = [
        float(np.interp(time, clock[seen].numpy(), column[seen].numpy()))
        for column, seen in zip(values.T, ~values.T.isnan(), strict=True)
    ]
    return torch.tensor(at, dtype=torch.float64)


def _between(knots: Tensor, start: float, span: float) -> Tensor:
    """The knots that a solve from `start` over `span` needs, in times after `start`."""
    first = max(int((knots[:, 0] <= start).sum()) - 1, 0)
    last = min(int((knots[:, 0] < start + span).sum()) + 1, len(knots))
    own = knots[first : max(last, first + 1)].clone()
    own[:, 0] -= start
    return own
