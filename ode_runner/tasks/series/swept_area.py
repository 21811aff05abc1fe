"""The area that a path sweeps around the origin, as a controlled equation: initial state, field and output."""

from typing import final

import torch
from torch import Tensor, nn

from ode_runner.controls.base import slope_at
from ode_runner.controls.linear import LinearControl
from ode_runner.controls.series import Series
from ode_runner.encoding import Encoding
from ode_runner.field import VectorField
from ode_runner.types import State, Time, Times


@final
class SweptArea(VectorField):
    """d(x, y, A) = (dx, dy, 1/2 (x dy - y dx)) along straight lines between rows; their coefficients are `given`.

    Args:
        times: (rows,) of the rows, increasing and evenly spaced.
    """

    times: Tensor

    def __init__(self, times: Times) -> None:
        super().__init__()
        self.register_buffer("times", times.double())

    def forward(self, t: Time, y: State, *given: Tensor) -> State:
        (coefficients,) = given
        line = torch.searchsorted(self.times.to(t.dtype), t.detach(), right=True) - 1
        slope = slope_at(line.clamp(0, coefficients.shape[1] - 1).to(y), coefficients)
        dx, dy = (slope / (self.times[1] - self.times[0]).to(y)).unbind(dim=1)
        return torch.stack([dx, dy, (y[:, 0] * dy - y[:, 1] * dx) / 2], dim=1)


@final
class AreaStem(nn.Module):
    """Maps rows of points to the initial state (x, y, 0) and to the lines between the points, with a break at each."""

    def __init__(self, times: Times) -> None:
        super().__init__()
        self.breaks = times.tolist()[1:-1]

    def forward(self, rows: Tensor) -> Encoding:
        series = Series.of_rows(rows)
        points = series.values
        lines = LinearControl().coefficients(points, series.lengths)
        begin = torch.cat([points[:, 0], points.new_zeros(len(points), 1)], dim=1)
        return Encoding(begin, given=(lines,), breaks=self.breaks)


@final
class AreaHead(nn.Module):
    """Maps states (x, y, A) to A, (batch, 1)."""

    def forward(self, y: State) -> Tensor:
        return y[:, 2:]
