"""D3PM: discrete-time diffusion of texts."""

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
    """Learns the reverse steps of a discrete diffusion, by a variational bound of the likelihood.

    Args:
        kernel: what replaces a token: a mask (`absorbing`), a random token (`uniform`), or either (`hybrid`), so that
            unmasked tokens can still be corrected.
        masked: for `hybrid`: the probability of a mask.
        steps: number of steps of the bound; samplers may use another number.
        cross_entropy: weight of the cross-entropy of all tokens, in addition to the bound.
        schedule: the probability that a token is replaced by time t.

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

    def unused_options(self) -> Mapping[str, str]:
        return {} if self.kernel == "hybrid" else {"masked": f"model.kernel={self.kernel}"}
