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
    """What the objective asks of a model."""

    known: KnownTokenField | None  # the true law, where that is known

    @abc.abstractmethod
    def log_likelihood(self, text: Tensor, integrate: Integrate) -> Tensor:
        """The log likelihood of texts (batch, position) in nats, (batch,), for one evaluation."""


@final
class TextLikelihood(Objective[TextLearner]):
    """The mean of the negative log likelihood of a text, in nats, which is a bound of itself: `nelbo`. No solve.

    Where the true law is known, `nelbo_floor` is what that has for the same texts, outside training.

    Bengio, Ducharme, Vincent, Janvin. A Neural Probabilistic Language Model. JMLR 3, 2003.
    """

    solves = False

    def loss(self, model: TextLearner, task: Task, batch: Batch, integrate: Integrate) -> Loss:
        loss = -model.log_likelihood(batch.inputs, integrate).mean()
        beside = {BOUND: loss} | bound_scalars(task, loss)
        if not model.training and model.known is not None:
            floor = -model.known.log_density(batch.inputs).mean().to(loss.dtype)
            beside |= {FLOOR: floor, f"{BOUND}_floor": floor}
        return Loss(loss, beside=beside)


def log_probabilities(logits: Tensor, text: Tensor) -> Tensor:
    """log p of each token of a text by its logits, (batch, position), in single precision or better."""
    with torch.autocast(text.device.type, enabled=False):
        precise = logits if logits.dtype == torch.float64 else logits.float()
        return precise.log_softmax(dim=-1).gather(2, text[..., None])[..., 0]
