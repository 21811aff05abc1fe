"""Diffusion of texts by ratios of probabilities."""

from typing import ClassVar, Literal, final

from ode_runner.models.texts.replaced_text import LearnedReplacementField, ReplacedTextModel, kernel_noise
from ode_runner.networks.base import Network
from ode_runner.objectives.base import Objective
from ode_runner.objectives.score_entropy import RatioLearner, ScoreEntropy
from ode_runner.paths.token_field import RatioField


@final
class LearnedRatioField(LearnedReplacementField, RatioField):
    """Ratios of which a network says the logits, which is told the time."""


@final
class SEDD(ReplacedTextModel, RatioLearner):
    """Learns how much likelier a text is with another token in one place, while noise replaces more and more tokens.

    By these ratios the noise is turned round: at rates (`tau_leap`, `gillespie`), or step by step with the ratios at
    the beginning of each (`ancestral`). With masks for noise they are those of what masked tokens are, (a / (1 - a))
    p(token), so that the model is masked diffusion whose probabilities need not sum to 1.

    Args:
        kernel: what takes the place of a token: a mask (`absorbing`), or any token (`uniform`).

    Lou, Meng, Ermon. Discrete Diffusion Modeling by Estimating the Ratios of the Data Distribution. ICML 2024.
    """

    objective: ClassVar[Objective[RatioLearner]] = ScoreEntropy()
    learned: ClassVar[type[LearnedReplacementField]] = LearnedRatioField
    field: LearnedRatioField

    def __init__(self, network: Network, *, kernel: Literal["absorbing", "uniform"]) -> None:
        noise = kernel_noise(kernel, max(network.spec.tokens, 1), masked=0.5)
        super().__init__(network, name="sedd", noise=noise, schedule="linear")
