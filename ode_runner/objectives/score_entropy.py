"""The score entropy of ratios of probabilities, which bounds the likelihood of texts."""

from typing import final

import torch
from torch import Tensor

from ode_runner.batch import Batch
from ode_runner.objectives.base import FLOOR, Loss, Objective
from ode_runner.objectives.masked_likelihood import BOUND, bound_scalars
from ode_runner.objectives.text_denoising import TextDenoiser, draw_corruption
from ode_runner.paths.token_field import KnownTokenField, RatioField
from ode_runner.problem import Integrate
from ode_runner.tasks.base import Task


class RatioLearner(TextDenoiser):
    """The interface that the objective needs from a model."""

    field: RatioField
    known: KnownTokenField | None  # the true distribution, if it is known


@final
class ScoreEntropy(Objective[RatioLearner]):
    """An upper bound of the negative log likelihood of a text, in nats: `nelbo`; one evaluation, no solve.

    It is the integral of `score_entropy` over time, with times t = u^2 for u stratified over a batch: the integrand is
    of order 1 / t with probability t, and this choice keeps its variance finite. If the true distribution is known,
    `nelbo_floor` is the value of its ratios for the same noise, outside training.

    Lou, Meng, Ermon. Discrete Diffusion Modeling by Estimating the Ratios of the Data Distribution. ICML 2024, theorem
    3.6, whose log-linear noise replaces tokens at the rate 1 / (1 - t), as the linear schedule does.
    """

    solves = False

    def loss(self, model: RatioLearner, task: Task, batch: Batch, integrate: Integrate) -> Loss:
        field, (text, u, uniform) = model.field, draw_corruption(batch.inputs, training=model.training)
        t = u.square()
        x = field.corrupt(t, text, *uniform)
        logits = model.logits(t, x, integrate)
        bound = (2 * u * score_entropy(field, t, x, text, field.log_ratios(t, x, logits))).mean()
        total = bound.to(logits.dtype if logits.dtype == torch.float64 else torch.float32)
        reported = {BOUND: bound.detach()} | bound_scalars(task, bound.detach())
        if not model.training and model.known is not None:
            denoised = model.known.posterior(field.likelihood(t, x))
            true = score_entropy(field, t, x, text, field.ratios_of(t, x, denoised).log())
            reported |= dict.fromkeys((FLOOR, f"{BOUND}_floor"), (2 * u * true).mean())
        return Loss(total, reported=reported)


def score_entropy(field: RatioField, t: Tensor, x: Tensor, text: Tensor, log_ratios: Tensor) -> Tensor:
    """Sum over jumps of their rate from text to noise times s - r log s + r (log r - 1), (batch,), nats per unit time.

    s are the ratios of a field, (batch, position, state), and r those for the text itself, q(y | text) / q(x | text).
    """
    kept, gone = field.shares(t)
    states = torch.arange(len(field.noise), device=x.device)
    likelihood = kept * (text[..., None] == states) + gone * field.noise
    ratios = likelihood / likelihood.gather(2, x[..., None])
    cross = torch.where(ratios > 0, ratios * log_ratios, 0.0)
    each = log_ratios.exp() - cross + torch.xlogy(ratios, ratios) - ratios
    return (field.replacement(t, x) * each).sum(dim=(1, 2))
