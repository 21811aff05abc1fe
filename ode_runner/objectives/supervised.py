"""A loss of the model's answer."""

from typing import final

import torch
from torch import nn

from ode_runner.batch import Batch, Outputs
from ode_runner.errors import RefusedInput
from ode_runner.objectives.base import Loss, Objective
from ode_runner.problem import Integrate
from ode_runner.tasks.base import Task

TASK = "task"  # name of the term that is the task's own


@final
class Supervised(Objective[nn.Module]):
    """The task's loss of what the model answers, and the terms that the model adds, weighted as the batch says."""

    def loss(self, model: nn.Module, task: Task, batch: Batch, integrate: Integrate) -> Loss:
        outputs: Outputs = model(batch.inputs, batch.ts, integrate)
        outputs = outputs._replace(values=outputs.values.to(batch.ts.dtype))
        if TASK in outputs.terms:
            raise RefusedInput(f"a model's term may have any name but '{TASK}', which is the task's own loss.")
        with torch.autocast(batch.inputs.device.type, enabled=False):
            terms = {TASK: task.loss(outputs, batch)} | {name: term.mean() for name, term in outputs.terms.items()}
            total = terms[TASK]
            for name in outputs.terms:
                total = total + batch.weights.get(name, 1.0) * terms[name]
        return Loss(total, terms, outputs)
