"""The natural cubic spline."""

from typing import ClassVar, final

import torch
from torch import Tensor

from ode_runner.controls.base import Control


@final
class NaturalControl(Control):
    """The natural cubic spline: C2, no curvature at the ends. It is not causal: all of it depends on every row."""

    kinks: ClassVar[bool] = False
    causal: ClassVar[bool] = False

    def derivative(self, knots: Tensor, lengths: Tensor) -> Tensor:
        m, d = slopes(knots, lengths), knots.diff(dim=1)
        m0, m1 = m[:, :-1], m[:, 1:]
        return torch.stack([m0, 6 * d - 4 * m0 - 2 * m1, 3 * (m0 + m1 - 2 * d)], dim=2)


def slopes(knots: Tensor, lengths: Tensor) -> Tensor:
    """dX/ds (series, rows, channels) at the rows of each series; values in padding have no meaning.

    The slopes m solve m_{i-1} + 4 m_i + m_{i+1} = 3 (x_{i+1} - x_{i-1}), with 2 m_0 + m_1 = 3 (x_1 - x_0) at the first
    row and likewise at the last: a tridiagonal system, solved by elimination.
    """
    rows = knots.shape[1]
    if rows == 1:
        return torch.zeros_like(knots)
    end = (lengths - 1)[:, None]
    d = knots.diff(dim=1)
    ratios, values = list[Tensor](), list[Tensor]()  # m_i = values_i - ratios_i m_{i+1}
    for i in range(rows):
        own = torch.where((end == i) | (i == 0), 2.0, 4.0).to(knots)
        right = torch.where(end > i, 3 * d[:, min(i, rows - 2)], 0.0)
        if i:
            right = right + 3 * d[:, i - 1] - values[-1]
            own = own - ratios[-1]
        values.append(right / own)
        ratios.append(torch.where(end > i, 1 / own, 0.0))
    m = [values[-1]]
    for value, ratio in zip(values[-2::-1], ratios[-2::-1], strict=True):
        m.append(value - ratio * m[-1])
    return torch.stack(m[::-1], dim=1)
