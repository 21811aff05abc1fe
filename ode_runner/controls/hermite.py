"""Cubics whose slope at a row is that of the line which leads to it."""

from typing import ClassVar, final

import torch
from torch import Tensor

from ode_runner.controls.base import Control


@final
class HermiteControl(Control):
    """Cubic Hermite with backward differences: smooth, and on the way to a row nothing after it is needed.

    With b the difference of the rows before and d that of the piece, dX/ds = b + (d - b)(4 u - 3 u^2) after a part u of
    the piece. The first piece is a line.

    Morrill, Kidger, Yang, Lyons. Neural Controlled Differential Equations for Online Prediction Tasks. 2021.
    """

    kinks: ClassVar[bool] = False

    def derivative(self, knots: Tensor, lengths: Tensor) -> Tensor:
        del lengths
        d = knots.diff(dim=1)
        b = torch.cat([d[:, :1], d[:, :-1]], dim=1)
        return torch.stack([b, 4 * (d - b), -3 * (d - b)], dim=2)
