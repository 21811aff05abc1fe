"""Masked diffusion of texts."""

from typing import ClassVar, final

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ode_runner.field import VectorField
from ode_runner.models.texts.token_diffusion import TokenDiffusion
from ode_runner.networks.base import Network
from ode_runner.networks.tokens import two_sided_network
from ode_runner.objectives.base import Objective
from ode_runner.objectives.masked_likelihood import MaskedLikelihood, MaskLearner, Weighting
from ode_runner.paths.corruption import CorruptionName, CorruptionSchedule, corruption_named
from ode_runner.paths.token_field import LogitsField, MaskedField
from ode_runner.problem import Integrate
from ode_runner.types import Time


@final
class MaskedDiffusion(TokenDiffusion, MaskLearner):
    """Learns the distribution of masked tokens given the others, for any set of masks, independently of time.

    Args:
        schedule: the probability that a token is masked at time t. The trained weights do not depend on it.
        weighting: `elbo`: the loss bounds the negative log likelihood; `mean`: the mean cross-entropy of masked tokens,
            for any number of masks.

    Sahoo, Arriola, Schiff, Gokaslan, Marroquin, Chiu, Rush, Kuleshov. Simple and Effective Masked Diffusion Language
    Models. NeurIPS 2024.
    """

    objective: ClassVar[Objective[MaskLearner]] = MaskedLikelihood()
    test_only: ClassVar[frozenset[str]] = frozenset({"schedule"})
    field: "LearnedMaskedField"

    def __init__(self, network: Network, *, schedule: CorruptionName, weighting: Weighting) -> None:
        layers, spec = two_sided_network(network, "masked_diffusion"), network.spec
        super().__init__(network)
        self.weighting = weighting
        denoiser = layers.denoiser(symbols=spec.tokens + 1, outputs=spec.tokens)
        self.field = LearnedMaskedField(denoiser, tokens=spec.tokens, schedule=corruption_named(schedule))

    def logits(self, x: Tensor, integrate: Integrate) -> Tensor:
        return integrate.evaluate(self.field, torch.zeros((), device=x.device), x, call="logits")


@final
class LearnedMaskedField(LogitsField, MaskedField):
    """The field of masked texts, whose masked tokens a network predicts, independently of time.

    Args:
        inner: maps tokens, including masks, to logits (batch, position, tokens).
    """

    def __init__(self, inner: VectorField, *, tokens: int, schedule: CorruptionSchedule) -> None:
        super().__init__()
        self.inner, self.tokens, self.schedule = inner, tokens, schedule

    def logits(self, t: Time, x: Tensor, *given: Tensor) -> Tensor:
        return self.inner(torch.zeros_like(t), x, *given)

    def denoise(self, t: Time, x: Tensor, *given: Tensor) -> Tensor:
        predicted = self.logits(t, x, *given).double().softmax(dim=-1)
        known = one_hot(x, self.tokens + 1)[..., : self.tokens].double()
        return torch.where((x == self.mask)[..., None], predicted, known)
