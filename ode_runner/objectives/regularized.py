"""An objective, and what regularisers add to it."""

from collections.abc import Mapping
from functools import reduce
from typing import Any, final

from torch import nn

from ode_runner.batch import Batch
from ode_runner.errors import RefusedInput
from ode_runner.objectives.along import Along
from ode_runner.objectives.base import TASK, Loss, Objective
from ode_runner.problem import Integrate
from ode_runner.regularizers.base import Regularizer
from ode_runner.tasks.base import Task
from ode_runner.types import Scalar, Times


@final
class Regularized(Objective[nn.Module]):
    """Another objective with a term for each regulariser, by its name; they join the loss in training alone."""

    def __init__(self, objective: Objective[Any], regularizers: Mapping[str, Regularizer]) -> None:
        self.objective, self.regularizers = objective, regularizers
        self.solves = objective.solves
        integrals = {name: regularizer.integral() for name, regularizer in regularizers.items()}
        self.integrals = {name: integral for name, integral in integrals.items() if integral is not None}

    def loss(self, model: nn.Module, task: Task, batch: Batch, integrate: Integrate) -> Loss:
        along = Along(integrate, self.integrals, times=self._times if model.training else None)
        loss = self.objective.loss(model, task, batch, along)
        prices, total = self._prices(model, along), loss.total
        for name, price in prices.items() if model.training else ():
            total = total + self.regularizers[name].weight * price
        own = loss.terms or {TASK: loss.total}
        if both := own.keys() & prices.keys():
            raise RefusedInput(f"a term of the loss has the name of a regulariser: {', '.join(both)}. Rename one.")
        return loss._replace(total=total, terms={**own, **prices})

    def _times(self, ts: Times) -> Times:
        return reduce(lambda times, regularizer: regularizer.last_time(times), self.regularizers.values(), ts)

    def _prices(self, model: nn.Module, along: Along) -> dict[str, Scalar]:
        """By regulariser: its integral over the solves that were made, and its penalty."""
        prices = dict(along.sums)
        for name, regularizer in self.regularizers.items():
            penalty = regularizer.penalty(model)
            if penalty is not None:
                prices[name] = prices[name] + penalty if name in prices else penalty
        return prices
