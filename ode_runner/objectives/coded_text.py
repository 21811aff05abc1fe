"""The objective of models that embed tokens as points and denoise these."""

import abc
from typing import NamedTuple, final

import torch
from torch import Tensor, nn

from ode_runner.batch import Batch
from ode_runner.field import broadcast_time
from ode_runner.objectives.base import FLOOR, Loss, Objective
from ode_runner.objectives.masked_likelihood import BOUND, COPIES, VALIDATION, bound_scalars
from ode_runner.objectives.text_likelihood import log_probabilities
from ode_runner.paths.base import GaussianPath
from ode_runner.paths.denoising_field import DenoisingField
from ode_runner.paths.token_field import KnownTokenField
from ode_runner.problem import Integrate
from ode_runner.tasks.base import Task


class CodeLearner(nn.Module, abc.ABC):
    """The interface that the objective needs from a model."""

    field: DenoisingField
    known: KnownTokenField | None  # the true distribution, if it is known
    end_time: float  # the time at which samples end and are rounded to tokens
    regression: float  # weight of the bound, relative to the cross-entropy
    coded: str  # the embedding in words: cross-entropies for different embeddings are not comparable

    @abc.abstractmethod
    def codes(self) -> Tensor:
        """The points that represent the tokens, (token, number), all of the same norm."""

    @abc.abstractmethod
    def logits(self, t: Tensor, x: Tensor, integrate: Integrate) -> Tensor:
        """Logits of the tokens, given x_t (batch, position, number) at times (batch,): (batch, position, tokens)."""


@final
class CodedLikelihood(Objective[CodeLearner]):
    """The cross-entropy of the tokens given x_t, plus `regression` times a bound of -log p of a text; no solve.

    The bound, in nats, is `nelbo`: the integral of r |x_0 - E[x_0 | x_t]|^2 over r = alpha / sigma, from 0 to the value
    where samples end, plus the cross-entropy of rounding there; r is stratified over a batch. For the true distribution
    it is the entropy. If that is known, `nelbo_floor` is its bound for the same noise, outside training.

    Kingma, Salimans, Poole, Ho. Variational Diffusion Models. NeurIPS 2021, equation 14. · Dieleman et al. Continuous
    Diffusion for Categorical Data. 2022, for the cross-entropy.
    """

    solves = False

    def loss(self, model: CodeLearner, task: Task, batch: Batch, integrate: Integrate) -> Loss:
        text, codes = batch.inputs if model.training else batch.inputs.repeat(COPIES, 1), model.codes()
        drawn = _draw(text, codes, model)
        noised = model.field.path.noised(broadcast_time(drawn.t, drawn.noise), codes[text], drawn.noise)
        logits = model.logits(drawn.t, noised, integrate)
        with torch.autocast(text.device.type, enabled=False):
            logits = logits if logits.dtype == torch.float64 else logits.float()
            bound = _bound(model, drawn, text, codes, logits.softmax(dim=-1))
            cross = -log_probabilities(logits, text).sum(dim=1).mean()
            reported = {BOUND: bound.detach()} | bound_scalars(task, bound.detach())
            if not model.training and model.known is not None:
                posterior = model.known.posterior(
                    evidence(model.field.path, codes, drawn.t, noised).double().softmax(dim=-1)
                )
                least = -posterior.gather(2, text[..., None]).log().sum(dim=(1, 2)).mean()
                floor = _bound(model, drawn, text, codes, posterior.to(codes.dtype))
                reported |= {FLOOR: (least + model.regression * floor).to(floor.dtype), f"{BOUND}_floor": floor}
            return Loss(cross + model.regression * bound, reported=reported)

    def measures(self, model: CodeLearner) -> str:
        ends = f"with noise from t={model.end_time:g} on"
        return f"the cross-entropy of {model.coded} {ends} and {model.regression:g} times a bound"


class _Drawn(NamedTuple):
    ratio: Tensor  # (batch,): alpha / sigma
    most: Tensor  # (): alpha / sigma at the end of samples
    t: Tensor  # (batch,)
    noise: Tensor  # (batch, position, number)


def _draw(text: Tensor, codes: Tensor, model: CodeLearner) -> _Drawn:
    """Noise for a batch, and stratified ratios alpha / sigma; outside training always the same."""
    generator = None if model.training else torch.Generator(text.device).manual_seed(VALIDATION)
    within = torch.rand(len(text), generator=generator, device=text.device, dtype=torch.float32)
    noise = torch.randn(*text.shape, codes.shape[1], generator=generator, device=text.device, dtype=torch.float32)
    most = model.field.path.log_snr(codes.new_full((), model.end_time)).exp()
    ratio = most * (torch.arange(len(text), device=text.device) + within).to(codes.dtype) / len(text)
    return _Drawn(ratio, most, model.field.path.time_of_log_snr(ratio.log()), noise.to(codes.dtype))


def _bound(model: CodeLearner, drawn: _Drawn, text: Tensor, codes: Tensor, denoised: Tensor) -> Tensor:
    """The bound in nats; `denoised` are the probabilities of the tokens, (batch, position, tokens)."""
    squares = (denoised @ codes - codes[text]).square().sum(dim=(1, 2))
    end = codes.new_full((), model.end_time)
    last = evidence(model.field.path, codes, end, model.field.path.noised(end, codes[text], drawn.noise))
    rounding = -log_probabilities(last, text).sum(dim=1)
    return (drawn.most * drawn.ratio * squares + rounding).mean()


def evidence(path: GaussianPath, codes: Tensor, t: Tensor, x: Tensor) -> Tensor:
    """log q(x_t = x | token) for every position, up to a constant: (batch, position, tokens)."""
    time = broadcast_time(t, x)
    return path.alpha(time) / path.sigma(time).square() * (x @ codes.T)
