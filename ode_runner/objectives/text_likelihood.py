"""The likelihood of texts."""

import abc
from typing import final

import torch
from torch import Tensor, nn

from ode_runner.batch import Batch
from ode_runner.objectives.base import FLOOR, Loss, Objective
from ode_runner.objectives.masked_likelihood import BOUND, bound_scalars
from ode_runner.paths.token_field import KnownTokenField
from ode_runner.problem import Integrate
from ode_runner.tasks.base import Task


class TextLearner(nn.Module, abc.ABC):
    """The interface that the objective needs from a model."""

    known: KnownTokenField | None  # the true distribution, if it is known

    @abc.abstractmethod
    def log_likelihood(self, text: Tensor, integrate: Integrate) -> Tensor:
        """The log likelihood of texts (batch, position), in nats, (batch,); one evaluation."""


@final
class TextLikelihood(Objective[TextLearner]):
    """The mean negative log likelihood of a text, in nats; it is also reported as the bound `nelbo`. No solve.

    If the true distribution is known, `nelbo_floor` is its value for the same texts, outside training.

    Bengio, Ducharme, Vincent, Janvin. A Neural Probabilistic Language Model. JMLR 3, 2003.
    """

    solves = False

    def loss(self, model: TextLearner, task: Task, batch: Batch, integrate: Integrate) -> Loss:
        loss = -model.log_likelihood(batch.inputs, integrate).mean()
        reported = {BOUND: loss} | bound_scalars(task, loss)
        if not model.training and model.known is not None:
            floor = -model.known.log_density(batch.inputs).mean().to(loss.dtype)
            reported |= {FLOOR: floor, f"{BOUND}_floor": floor}
        return Loss(loss, reported=reported)


def log_probabilities(logits: Tensor, text: Tensor) -> Tensor:
    """log p of each token of a text from its logits, (batch, position), in at least single precision."""
    with torch.autocast(text.device.type, enabled=False):
        precise = logits if logits.dtype == torch.float64 else logits.float()
        return precise.log_softmax(dim=-1).gather(2, text[..., None])[..., 0]
