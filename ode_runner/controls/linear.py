"""Straight lines from row to row."""

from typing import ClassVar, final

from torch import Tensor

from ode_runner.controls.base import Control


@final
class LinearControl(Control):
    """The polygonal line through the rows; its direction jumps at each."""

    kinks: ClassVar[bool] = True

    def derivative(self, knots: Tensor, lengths: Tensor) -> Tensor:
        del lengths
        return knots.diff(dim=1)[:, :, None]
