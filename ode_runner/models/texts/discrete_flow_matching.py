"""Flow matching of texts."""

from typing import ClassVar, Literal, final

from ode_runner.models.texts.replaced_text import Kernel, ReplacedTextModel, kernel_noise
from ode_runner.networks.base import Network
from ode_runner.objectives.base import Objective
from ode_runner.objectives.text_denoising import DenoisingCrossEntropy, TextDenoiser
from ode_runner.paths.corruption import CorruptionName


@final
class DiscreteFlowMatching(ReplacedTextModel):
    """Learns what tokens were by their cross-entropy alone; samples follow rates that carry noise to text.

    Args:
        kernel: what takes the place of a token: a `mask`, or any token (`uniform`), so that all may change to the end.
        schedule: how many are replaced at a time.

    Campbell, Yim, Barzilay, Rainforth, Jaakkola. Generative Flows on Discrete State-Spaces. ICML 2024. · Gat, Remez,
    Shaul, Kreuk, Chen, Synnaeve, Adi, Lipman. Discrete Flow Matching. NeurIPS 2024.
    """

    objective: ClassVar[Objective[TextDenoiser]] = DenoisingCrossEntropy()

    def __init__(self, network: Network, *, kernel: Literal["mask", "uniform"], schedule: CorruptionName) -> None:
        named: Kernel = "absorbing" if kernel == "mask" else "uniform"
        noise = kernel_noise(named, max(network.spec.tokens, 1), masked=0.5)
        super().__init__(network, name="discrete_flow", noise=noise, schedule=schedule)
