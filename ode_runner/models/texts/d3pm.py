"""Diffusion of texts in steps."""

from collections.abc import Mapping
from typing import ClassVar, final

from ode_runner.errors import RefusedInput
from ode_runner.models.texts.replaced_text import Kernel, ReplacedTextModel, kernel_noise
from ode_runner.networks.base import Network
from ode_runner.networks.sizes import check_sizes
from ode_runner.objectives.base import Objective
from ode_runner.objectives.text_denoising import StepDenoiser, StepLikelihood
from ode_runner.paths.corruption import CorruptionName


@final
class D3PM(ReplacedTextModel, StepDenoiser):
    """Learns the law of a text one step before, by a bound of its likelihood.

    Args:
        kernel: what takes the place of a token: a mask (`absorbing`), any token (`uniform`), or one of both (`hybrid`),
            so that tokens that stand may still be mended.
        masked: of `hybrid`, the probability of a mask.
        steps: of the bound; samplers may take others.
        cross_entropy: weight of the cross-entropy of all tokens, beside the bound.
        schedule: how many tokens are replaced at a time.

    Austin, Johnson, Ho, Tarlow, van den Berg. Structured Denoising Diffusion Models in Discrete State-Spaces. NeurIPS
    2021.
    """

    objective: ClassVar[Objective[StepDenoiser]] = StepLikelihood()

    def __init__(
        self,
        network: Network,
        *,
        kernel: Kernel,
        masked: float,
        steps: int,
        cross_entropy: float,
        schedule: CorruptionName,
    ) -> None:
        check_sizes("model", steps=steps)
        if cross_entropy < 0:
            raise RefusedInput(f"model.cross_entropy must be 0 or more, not {cross_entropy:g}.")
        noise = kernel_noise(kernel, max(network.spec.tokens, 1), masked=masked)
        super().__init__(network, name="d3pm", noise=noise, schedule=schedule)
        self.kernel, self.steps, self.cross_entropy = kernel, steps, cross_entropy

    def idle_options(self) -> Mapping[str, str]:
        return {} if self.kernel == "hybrid" else {"masked": f"model.kernel={self.kernel}"}
