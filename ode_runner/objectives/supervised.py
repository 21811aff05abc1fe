"""The objective of models that are trained on the task's loss."""

from typing import final

import torch
from torch import nn

from ode_runner.batch import Batch, Outputs
from ode_runner.errors import RefusedInput
from ode_runner.objectives.base import TASK, Loss, Objective
from ode_runner.objectives.regularized_solves import RegularizedSolves
from ode_runner.problem import Integrate
from ode_runner.tasks.base import Task


@final
class Supervised(Objective[nn.Module]):
    """The task's loss of the model's outputs, plus the terms that the model adds, plus the task's running costs.

    All terms but the first are weighted by the batch's weights, 1 by default.

    Our own.
    """

    def loss(self, model: nn.Module, task: Task, batch: Batch, integrate: Integrate) -> Loss:
        costs = task.running_costs()
        along = RegularizedSolves(integrate, lambda y0: costs)
        outputs: Outputs = model(batch.inputs, batch.ts, along)
        outputs = outputs._replace(values=outputs.values.to(batch.ts.dtype))
        if missing := costs.keys() - along.sums.keys():
            raise RefusedInput(f"the task asks for costs along the way ({', '.join(missing)}), and nothing is solved.")
        if twice := {TASK, *along.sums} & outputs.terms.keys():
            raise RefusedInput(f"a model's term may have no name of the task's own: {', '.join(twice)}.")
        with torch.autocast(batch.inputs.device.type, enabled=False):
            added = {name: term.mean() for name, term in outputs.terms.items()} | along.sums
            own = total = task.loss(outputs, batch)
            for name, term in added.items():
                total = total + batch.weights.get(name, 1.0) * term
        return Loss(total, {TASK: own, **added}, outputs)
