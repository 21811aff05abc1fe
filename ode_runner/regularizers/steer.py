"""Random end times in training."""

from typing import ClassVar, final

import torch
from torch import nn

from ode_runner.errors import IncompatibleChoice, RefusedInput
from ode_runner.regularizers.base import Regularizer
from ode_runner.regularizers.depth_varying import EndsWithSeries, Expanded
from ode_runner.types import Times


@final
class Steer(Regularizer):
    """Moves the last time of a training batch to a uniformly random time around it.

    It is at most `spread` times the last interval earlier or later, drawn for every batch by torch's global generator.
    There is no penalty, and so nothing to report.

    Ghosh, Behl, Dupont, Torr, Namboodiri. STEER: Simple Temporal Regularization For Neural ODEs. NeurIPS 2020.
    """

    excludes: ClassVar[tuple[type, ...]] = (EndsWithSeries,)
    requirement: ClassVar[str] = "solves that can end later than the data"

    def __init__(self, *, spread: float) -> None:
        super().__init__(weight=0.0)
        if not 0 < spread < 1:
            raise RefusedInput(f"regularizer.steer.spread must be above 0 and below 1, not {spread}.")
        self.spread = spread

    def check(self, model: nn.Module) -> None:
        end = model.last_depth if isinstance(model, Expanded) else None
        if end is not None:
            raise IncompatibleChoice(
                "regularizer=steer moves the last time, beyond which the weights of model=galerkin with this basis are "
                "not defined. Use model.basis=fourier."
            )

    def last_time(self, ts: Times) -> Times:
        if len(ts) == 1:
            return ts
        moved = ts.clone()
        moved[-1] += self.spread * (ts[-1] - ts[-2]) * (2 * float(torch.rand(())) - 1)
        return moved
