"""Discrete flow matching of texts."""

from typing import ClassVar, Literal, final

from ode_runner.models.texts.replaced_text import Kernel, ReplacedTextModel, kernel_noise
from ode_runner.networks.base import Network
from ode_runner.objectives.base import Objective
from ode_runner.objectives.text_denoising import DenoisingCrossEntropy, TextDenoiser
from ode_runner.paths.corruption import CorruptionName


@final
class DiscreteFlowMatching(ReplacedTextModel):
    """Learns the original tokens by cross-entropy alone; samples follow jump rates from noise to text.

    Args:
        kernel: what replaces a token: a `mask`, or a random token (`uniform`), so that tokens can change until the end.
        schedule: the probability that a token is replaced by time t.

    Campbell, Yim, Barzilay, Rainforth, Jaakkola. Generative Flows on Discrete State-Spaces. ICML 2024. · Gat, Remez,
    Shaul, Kreuk, Chen, Synnaeve, Adi, Lipman. Discrete Flow Matching. NeurIPS 2024.
    """

    objective: ClassVar[Objective[TextDenoiser]] = DenoisingCrossEntropy()

    def __init__(self, network: Network, *, kernel: Literal["mask", "uniform"], schedule: CorruptionName) -> None:
        named: Kernel = "absorbing" if kernel == "mask" else "uniform"
        noise = kernel_noise(named, max(network.spec.tokens, 1), masked=0.5)
        super().__init__(network, name="discrete_flow", noise=noise, schedule=schedule)
