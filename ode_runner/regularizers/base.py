"""What a regulariser is."""

from typing import ClassVar

from torch import nn

from ode_runner.integral import Integral
from ode_runner.types import Scalar, Times


class Regularizer:
    """A price that joins the loss of training, by its weight, or a change of the solves that training makes.

    A subclass overrides at least one of three hooks. In validation and test its price is a term that is reported, and
    no part of the loss, and solves are as the task asks for them.
    """

    needs_solve: ClassVar[bool] = True  # False: its penalty does with a model that solves nothing

    def __init__(self, *, weight: float) -> None:
        self.weight = weight

    def integral(self) -> Integral | None:
        """Taken along every solve of the model; its mean over the batch, summed over solves, is a price."""
        return None

    def last_time(self, ts: Times) -> Times:
        """The times of a solve of training; all but the last stay."""
        return ts

    def penalty(self, model: nn.Module) -> Scalar | None:
        """A price on the parameters."""
        del model
        return None
