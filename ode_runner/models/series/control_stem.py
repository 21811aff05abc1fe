"""The stem of models that are driven by a control through the rows of a series."""

from typing import final

import torch
from torch import Tensor, nn

from ode_runner.controls.base import Control
from ode_runner.controls.missing import counts
from ode_runner.controls.series import Series
from ode_runner.encoding import Encoding


@final
class ControlStem(nn.Module):
    """Maps rows of series to the initial state; the coefficients of the control are given to the field.

    Numbers of observations are divided by `most`, the number of rows of the task's longest series, so that they are of
    the same order as normalised values. `most` is fixed for the task: a scale from the series itself, such as its
    length, would tell a row how many later ones there are.
    """

    most: Tensor

    def __init__(
        self, control: Control, initial: nn.Module, *, time: bool, counted: bool, rows: int, at_every_row: bool
    ) -> None:
        super().__init__()
        self.control, self.initial, self.time, self.counted = control, initial, time, counted
        self.at_every_row = at_every_row
        if counted:  # part of the trained model: with other data it stays the same
            self.register_buffer("most", torch.tensor(float(rows)))

    def forward(self, rows: Tensor) -> Encoding:
        knots, coefficients = self.path(rows)
        lengths = Series.of_rows(rows).lengths
        return Encoding(
            self.initial(knots[:, 0]),
            given=(coefficients,),
            breaks=self.control.breaks(lengths, ends=self.at_every_row),
            knots=self.control.knots(lengths),
            lengths=lengths,
        )

    def path(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The knots (series, rows, channels), and the coefficients of the control through them."""
        series = Series.of_rows(rows)
        channels = [series.times[..., None]] if self.time else []
        channels += [self.control.fill(series), *([counts(series) / self.most] if self.counted else [])]
        knots = torch.cat(channels, dim=-1)[:, : int(series.lengths.max())]
        return knots, self.control.coefficients(knots, series.lengths)

    def names(self, values: int) -> list[str]:
        """The names of the channels."""
        numbers = range(1, values + 1)
        counted = [f"count {i}" for i in numbers] if self.counted else []
        return [*(["time"] if self.time else []), *(f"value {i}" for i in numbers), *counted]
