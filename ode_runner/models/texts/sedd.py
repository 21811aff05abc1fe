"""SEDD: diffusion of texts by ratios of probabilities (score entropy)."""

from typing import ClassVar, Literal, final

from ode_runner.models.texts.replaced_text import LearnedReplacementField, ReplacedTextModel, kernel_noise
from ode_runner.networks.base import Network
from ode_runner.objectives.base import Objective
from ode_runner.objectives.score_entropy import RatioLearner, ScoreEntropy
from ode_runner.paths.token_field import RatioField


@final
class LearnedRatioField(LearnedReplacementField, RatioField):
    """A ratio field whose logits are computed by a network, which receives the time."""


@final
class SEDD(ReplacedTextModel, RatioLearner):
    """Learns ratios of probabilities of noisy texts that differ in one token.

    The ratios define the reverse process: as jump rates (`tau_leap`, `gillespie`), or in steps with the ratios at their
    beginning (`ancestral`). With masks, the ratios are (a / (1 - a)) p(token), so that the model is masked diffusion
    whose probabilities need not sum to 1.

    Args:
        kernel: what replaces a token: a mask (`absorbing`), or a random token (`uniform`).

    Lou, Meng, Ermon. Discrete Diffusion Modeling by Estimating the Ratios of the Data Distribution. ICML 2024.
    """

    objective: ClassVar[Objective[RatioLearner]] = ScoreEntropy()
    learned: ClassVar[type[LearnedReplacementField]] = LearnedRatioField
    field: LearnedRatioField

    def __init__(self, network: Network, *, kernel: Literal["absorbing", "uniform"]) -> None:
        noise = kernel_noise(kernel, max(network.spec.tokens, 1), masked=0.5)
        super().__init__(network, name="sedd", noise=noise, schedule="linear")
