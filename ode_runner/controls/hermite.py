"""Cubic Hermite splines whose slope at a row is the backward difference there."""

from typing import ClassVar, final

import torch
from torch import Tensor

from ode_runner.controls.base import Control


@final
class HermiteControl(Control):
    """Cubic Hermite splines with backward differences: smooth and causal.

    At a part u of a piece, dX/ds = b + (d - b)(4 u - 3 u^2), where b is the difference of the previous piece's rows and
    d that of its own. The first piece is a line.

    Morrill, Kidger, Yang, Lyons. Neural Controlled Differential Equations for Online Prediction Tasks. 2021.
    """

    kinks: ClassVar[bool] = False

    def derivative(self, knots: Tensor, lengths: Tensor) -> Tensor:
        del lengths
        d = knots.diff(dim=1)
        b = torch.cat([d[:, :1], d[:, :-1]], dim=1)
        return torch.stack([b, 4 * (d - b), -3 * (d - b)], dim=2)
