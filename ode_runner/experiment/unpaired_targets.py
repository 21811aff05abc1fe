"""A loss of one's own that compares every output with every target, since their shapes differ and are broadcast."""

import torch

from ode_runner.batch import Batch
from ode_runner.objectives.base import Loss
from ode_runner.tasks.base import Task


@torch.no_grad()
def sentence_on_targets(task: Task, batch: Batch, loss: Loss) -> str:
    """A sentence for the user if outputs (batch, 1) are compared with targets (batch,) as (batch, batch); else "".

    The task's loss is computed once more, with the targets of other samples. It is the same only if it compares all
    pairs. That of a set of samples is, too, but its targets have the shape of the outputs.
    """
    if loss.outputs is None or batch.observed is not None:
        return ""
    values, targets = loss.outputs.values.detach(), batch.targets
    if values.shape != (*targets.shape, 1) or len(targets) < 2 or not targets.is_floating_point():
        return ""
    outputs = loss.outputs._replace(values=values)
    own, other = (task.loss(outputs, batch._replace(targets=x)) for x in (targets, targets.roll(1, dims=-1)))
    if not torch.isclose(own, other) or bool((targets == targets[..., :1]).all()):
        return ""
    shape = tuple(values.shape)
    return (
        f"{type(task).__name__}.loss compares every output with every target, also of other samples: outputs are of "
        f"shape {shape}, targets {tuple(targets.shape)}, and their difference is {(*shape[:-1], shape[-2])}. Give "
        f"targets of shape {shape}."
    )
