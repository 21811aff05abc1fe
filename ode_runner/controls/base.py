"""The base class of controls: paths X(s) through the rows of a series, as functions of the row number."""

import abc
from typing import ClassVar

import torch
from torch import Tensor

from ode_runner.controls.missing import interpolated
from ode_runner.controls.series import Series
from ode_runner.types import State, Time


class Control(abc.ABC):
    """A piecewise polynomial path through the rows of a series, with `pieces` pieces of length 1 from row to row.

    The parameter s counts pieces; time is a channel of X. So all series of a batch have the same knots, whatever the
    times of their rows. The solution of a controlled equation does not depend on the parametrisation of the path.
    """

    kinks: ClassVar[bool]  # dX/ds jumps at the knots
    causal: ClassVar[bool] = True  # up to a row, X does not depend on later rows
    causal_with_blanks: ClassVar[bool] = False  # the same if values are missing
    pieces: ClassVar[int] = 1

    def fill(self, series: Series) -> Tensor:
        """The values (series, rows, channels) with missing ones filled in."""
        return interpolated(series)

    @abc.abstractmethod
    def derivative(self, knots: Tensor, lengths: Tensor) -> Tensor:
        """Coefficients (series, pieces, degree + 1, channels) of dX/ds, by powers of the distance from a piece's start.

        Args:
            knots: (series, rows, channels), with time as the first channel; padding repeats the last row.
            lengths: (series,), the number of rows without padding.
        """

    def coefficients(self, knots: Tensor, lengths: Tensor) -> Tensor:
        """The result of `derivative`, set to 0 in padding."""
        found = self.derivative(knots, lengths)
        numbers = torch.arange(found.shape[1], device=knots.device)
        beyond = numbers >= self.pieces * (lengths[:, None] - 1)
        return found.masked_fill(beyond[..., None, None], 0.0)

    def breaks(self, lengths: Tensor, *, ends: bool) -> list[float]:
        """Values of s at which dX/ds jumps: knots with kinks, and ends of shorter series; `ends`: every row instead."""
        if self.kinks or ends:
            return self.knots(lengths)
        last = int(lengths.max()) - 1
        rows = sorted({length - 1 for length in lengths.tolist()} - {0, last})
        return [float(self.pieces * row) for row in rows]

    def knots(self, lengths: Tensor) -> list[float]:
        """Values of s between the ends of the longest series at which a piece begins."""
        return [float(k) for k in range(1, self.pieces * (int(lengths.max()) - 1))]


def slope_at(s: Time, coefficients: Tensor) -> State:
    """dX/ds (series, channels) at s, () or (series,). At a knot it is the slope of the piece that begins there."""
    piece = s.long().clamp(0, coefficients.shape[1] - 1)  # rounded towards 0, where the first piece begins
    distance = s - piece
    if s.dim():
        polynomial = coefficients[torch.arange(len(coefficients), device=s.device), piece]
        distance = distance[:, None]
    else:
        polynomial = coefficients.index_select(1, piece.view(1)).squeeze(1)
    slope, *lower = reversed(polynomial.unbind(1))
    for coefficient in lower:
        slope = torch.addcmul(coefficient, slope, distance)
    return slope


def path_at(s: Tensor, start: Tensor, coefficients: Tensor) -> Tensor:
    """X (places, channels) of one series at several s, from `start` = X(0) (channels,) and its coefficients."""
    degrees = torch.arange(1, coefficients.shape[1] + 1, dtype=coefficients.dtype, device=coefficients.device)[:, None]
    whole = (coefficients / degrees).sum(dim=1)
    at_knots = torch.cat([start[None], start + whole.cumsum(dim=0)])
    piece = s.floor().long().clamp(0, len(coefficients) - 1)
    distance = (s - piece)[:, None, None]
    return at_knots[piece] + (coefficients[piece] / degrees * distance**degrees).sum(dim=1)
