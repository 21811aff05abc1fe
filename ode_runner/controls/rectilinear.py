"""Rectilinear interpolation: first time moves on to the next row, then the values do."""

from typing import ClassVar, final

import torch
from torch import Tensor

from ode_runner.controls.base import Control
from ode_runner.controls.missing import held
from ode_runner.controls.series import Series


@final
class RectilinearControl(Control):
    """Lines from (t_i, x_i) to (t_{i+1}, x_i) and on to (t_{i+1}, x_{i+1}); missing values repeat the last observed.

    So it is causal even if values are missing.

    Morrill, Kidger, Yang, Lyons. Neural Controlled Differential Equations for Online Prediction Tasks. 2021.
    """

    kinks: ClassVar[bool] = True
    causal_with_blanks: ClassVar[bool] = True
    pieces: ClassVar[int] = 2

    def fill(self, series: Series) -> Tensor:
        return held(series)

    def derivative(self, knots: Tensor, lengths: Tensor) -> Tensor:
        del lengths
        d = knots.diff(dim=1)
        time = torch.zeros_like(d)
        time[..., 0] = d[..., 0]
        return torch.stack([time, d - time], dim=2).flatten(1, 2)[:, :, None]
