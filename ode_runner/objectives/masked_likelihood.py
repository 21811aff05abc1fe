"""A bound of the likelihood of texts, from a model's predictions of masked tokens."""

import abc
from typing import Literal, NamedTuple, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ode_runner.batch import Batch
from ode_runner.objectives.base import FLOOR, Loss, Objective
from ode_runner.paths.token_field import KnownTokenField, MaskedField
from ode_runner.problem import Integrate
from ode_runner.tasks.base import Task
from ode_runner.tasks.texts.token_task import TokenTask

BOUND = "nelbo"  # name of the bound in metrics
VALIDATION = 0  # seed of random numbers outside training
COPIES = 4  # of each text outside training, with different masks, which reduces the bound's variance
Weighting = Literal["elbo", "mean"]


class MaskLearner(nn.Module, abc.ABC):
    """The interface that the objective needs from a model."""

    field: MaskedField
    weighting: Weighting
    known: KnownTokenField | None  # the true field, if it is known

    @abc.abstractmethod
    def logits(self, x: Tensor, integrate: Integrate) -> Tensor:
        """Logits of the token at each position, (batch, position, tokens); one evaluation."""


@final
class MaskedLikelihood(Objective[MaskLearner]):
    """The mean of (n / m) times the cross-entropy of m masked tokens out of n, over m from 1 to n: no solve.

    This is an upper bound of the negative log likelihood of a text, in nats, and does not depend on the schedule: it
    equals the integral of -a' / (1 - a) times the cross-entropy of the tokens masked at t, without its large weights at
    small t. The numbers of masks are stratified over a batch. With `weighting=mean`, training minimises the mean
    cross-entropy of a masked token, with 1 / m instead of n / m; the bound is still reported, as `nelbo`. If the true
    field is known, `nelbo_floor` is its bound for the same masks.

    Uria, Murray, Larochelle. A Deep and Tractable Density Estimator. ICML 2014, for the mean over orders. · Sahoo et
    al. Simple and Effective Masked Diffusion Language Models. NeurIPS 2024, equation 10. · Shi, Han, Wang, Doucet,
    Titsias. Simplified and Generalized Masked Diffusion for Discrete Data. NeurIPS 2024.
    """

    solves = False

    def loss(self, model: MaskLearner, task: Task, batch: Batch, integrate: Integrate) -> Loss:
        text = batch.inputs if model.training else batch.inputs.repeat(COPIES, 1)
        masked = masks(text, training=model.training)
        x = torch.where(masked, model.field.mask, text)
        losses = masked_cross_entropy(model.logits(x, integrate), text, masked)
        count, length = masked.sum(dim=1), text.shape[1]
        bound = (length / count * losses).mean()
        total = bound if model.weighting == "elbo" else (losses / count).mean()
        return Loss(total, reported={BOUND: bound} | bound_scalars(task, bound) | self._floors(model, text, x, masked))

    def measures(self, model: MaskLearner) -> str:
        return "" if model.weighting == "elbo" else "the cross-entropy of a masked token"

    @staticmethod
    def _floors(model: MaskLearner, text: Tensor, x: Tensor, masked: Tensor) -> dict[str, Tensor]:
        """The bound and the loss of the true field for the same masks, outside training; no evaluation."""
        if model.training or model.known is None:
            return {}
        logits = model.known.denoise(torch.ones((), device=x.device), x).log()
        losses, count = masked_cross_entropy(logits, text, masked), masked.sum(dim=1)
        bound = (text.shape[1] / count * losses).mean()
        of_loss = bound if model.weighting == "elbo" else (losses / count).mean()
        return {FLOOR: of_loss, f"{BOUND}_floor": bound}


def bound_scalars(task: Task, bound: Tensor) -> dict[str, Tensor]:
    """A bound of the loss in other units, by name; empty if the task has no texts."""
    return task.of_bound(bound) if isinstance(task, TokenTask) else {}


class _Draw(NamedTuple):
    share: Tensor  # (batch,), between 0 and 1: share of masked tokens
    order: Tensor  # (batch, position): the tokens with the smallest numbers are masked


def masks(text: Tensor, *, training: bool) -> Tensor:
    """Random masks, bool (batch, position), with at least one in each text; outside training always the same."""
    generator = None if training else torch.Generator(text.device).manual_seed(VALIDATION)
    drawn = _draw(text, generator)
    count = 1 + (drawn.share * text.shape[1]).long().clamp(max=text.shape[1] - 1)
    return drawn.order.argsort(dim=1).argsort(dim=1) < count[:, None]


def masked_cross_entropy(logits: Tensor, text: Tensor, masked: Tensor) -> Tensor:
    """The cross-entropy of all masked tokens of each text, nats, (batch,)."""
    with torch.autocast(text.device.type, enabled=False):
        precise = logits.float() if logits.dtype == torch.bfloat16 else logits
        each = F.cross_entropy(precise.flatten(0, 1), text.flatten(), reduction="none").view(text.shape)
    return torch.where(masked, each, 0.0).sum(dim=1)


def _draw(text: Tensor, generator: torch.Generator | None) -> _Draw:
    """The shares are stratified: that of text i of n is uniform between i / n and (i + 1) / n."""
    within = torch.rand(len(text), generator=generator, device=text.device)
    order = torch.rand(text.shape, generator=generator, device=text.device)
    return _Draw((torch.arange(len(text), device=text.device) + within) / len(text), order)
