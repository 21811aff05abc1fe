"""Objectives of models that denoise texts: cross-entropy, and a stepwise bound of the likelihood."""

import abc
from typing import final

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from ode_runner.batch import Batch
from ode_runner.objectives.base import Loss, Objective
from ode_runner.objectives.masked_likelihood import BOUND, COPIES, VALIDATION, bound_scalars
from ode_runner.objectives.text_likelihood import log_probabilities
from ode_runner.paths.token_field import ReplacementField
from ode_runner.problem import Integrate
from ode_runner.tasks.base import Task


class TextDenoiser(nn.Module, abc.ABC):
    """The interface that these objectives need from a model."""

    field: ReplacementField
    replacing: str  # the replacement of tokens, in words

    @abc.abstractmethod
    def logits(self, t: Tensor, x: Tensor, integrate: Integrate) -> Tensor:
        """Logits of each position's original token, (batch, position, tokens), at times (batch,); one evaluation."""


class StepDenoiser(TextDenoiser):
    """A model with a fixed number of steps."""

    steps: int
    cross_entropy: float


@final
class DenoisingCrossEntropy(Objective[TextDenoiser]):
    """The cross-entropy of the tokens of a text that are not certain, given the noised text; no solve.

    Times are stratified over a batch, from 0 to 1. It is no bound. `ReplacementField` defines which tokens are certain.

    Gat, Remez, Shaul, Kreuk, Chen, Synnaeve, Adi, Lipman. Discrete Flow Matching. NeurIPS 2024, equation 27.
    """

    solves = False

    def loss(self, model: TextDenoiser, task: Task, batch: Batch, integrate: Integrate) -> Loss:
        del task
        text, share, uniform = draw_corruption(batch.inputs, training=model.training)
        x = model.field.corrupt(share, text, *uniform)
        each = -log_probabilities(model.logits(share, x, integrate), text)
        return Loss(torch.where(model.field.certain(x), 0.0, each).sum(dim=1).mean())

    def measures(self, model: TextDenoiser) -> str:
        return f"the cross-entropy of tokens given a text with {model.replacing} for some"


@final
class StepLikelihood(Objective[StepDenoiser]):
    """An upper bound of the negative log likelihood of a text for a number of steps, in nats: `nelbo`; no solve.

    It is the sum over steps of the KL divergence between the distribution of x_u given x_t and the text, and the
    model's; one step is drawn for each text. `cross_entropy` times the cross-entropy of all tokens is added to the
    training loss.

    Austin, Johnson, Ho, Tarlow, van den Berg. Structured Denoising Diffusion Models in Discrete State-Spaces. NeurIPS
    2021, equations 1 and 5.
    """

    solves = False

    def loss(self, model: StepDenoiser, task: Task, batch: Batch, integrate: Integrate) -> Loss:
        text, share, uniform = draw_corruption(batch.inputs, training=model.training)
        u = (share * model.steps).floor() / model.steps
        t = u + 1 / model.steps
        x = model.field.corrupt(t, text, *uniform)
        logits = model.logits(t, x, integrate)
        bound = model.steps * step_divergence(model.field, t, u, x, text, logits).mean()
        each = -log_probabilities(logits, text).sum(dim=1)
        total = bound.to(each.dtype) + model.cross_entropy * each.mean()
        return Loss(total, reported={BOUND: bound.detach()} | bound_scalars(task, bound.detach()))

    def measures(self, model: StepDenoiser) -> str:
        weight = model.cross_entropy
        given = f"given a text with {model.replacing} for some"
        return f"a bound and {weight:g} times the cross-entropy of all tokens {given}" if weight else ""


def step_divergence(field: ReplacementField, t: Tensor, u: Tensor, x: Tensor, text: Tensor, logits: Tensor) -> Tensor:
    """KL(q(x_u | x_t, x_0) || p(x_u | x_t)), p from the field's logits, summed over positions: (batch,), nats."""
    guessed = logits.double().softmax(dim=-1)
    true = one_hot(text, field.tokens).double()
    guessed = torch.where(field.certain(x)[..., None], true, guessed)
    target, distribution = field.reverse_transition(t, u, x, true), field.reverse_transition(t, u, x, guessed)
    distribution = torch.where(target > 0, distribution, 1.0)  # avoids NaN derivatives if both are 0
    return (torch.xlogy(target, target) - torch.xlogy(target, distribution)).sum(dim=(1, 2))


def draw_corruption(text: Tensor, *, training: bool) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """Texts, a stratified uniform number for each, and two uniform numbers for each token.

    Outside training, each text has several copies, and the numbers are always the same. The copies of a text are apart
    in the batch, so that their numbers are in different strata.
    """
    generator = None if training else torch.Generator(text.device).manual_seed(VALIDATION)
    text = text if training else text.repeat(COPIES, 1)
    within, *uniform = (
        torch.rand(shape, generator=generator, device=text.device, dtype=torch.float64)
        for shape in (text.shape[:1], text.shape, text.shape)
    )
    share = (torch.arange(len(text), device=text.device) + within) / len(text)
    return text, share, (uniform[0], uniform[1])
