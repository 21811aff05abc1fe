"""Base classes of models that predict the tokens of a text before noise replaced some of them."""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from ode_runner.errors import RefusedInput
from ode_runner.field import VectorField
from ode_runner.models.texts.token_diffusion import TokenDiffusion
from ode_runner.networks.base import Network
from ode_runner.networks.tokens import two_sided_network
from ode_runner.objectives.text_denoising import TextDenoiser
from ode_runner.paths.corruption import CorruptionName, CorruptionSchedule, corruption_named
from ode_runner.paths.token_field import ReplacementField
from ode_runner.problem import Integrate
from ode_runner.types import Time

Kernel = Literal["absorbing", "uniform", "hybrid"]


class LearnedReplacementField(ReplacementField):
    """A replacement field whose logits are computed by a network, which receives the time."""

    def __init__(self, inner: VectorField, noise: Tensor, *, tokens: int, schedule: CorruptionSchedule) -> None:
        super().__init__(noise, tokens=tokens, schedule=schedule)
        self.inner = inner

    def logits(self, t: Time, x: Tensor, *given: Tensor) -> Tensor:
        return self.inner(t.float() if t.dtype == torch.float64 else t, x, *given)


class ReplacedTextModel(TokenDiffusion, TextDenoiser):
    """Learns to predict the tokens of a text before some of them were replaced.

    Args:
        name: the name of the model in messages.
        noise: (state,), the distribution of replacements.
        schedule: the probability that a token is replaced by time t.
    """

    learned: ClassVar[type[LearnedReplacementField]] = LearnedReplacementField
    field: LearnedReplacementField

    def __init__(self, network: Network, *, name: str, noise: Tensor, schedule: CorruptionName) -> None:
        layers, tokens = two_sided_network(network, name), network.spec.tokens
        super().__init__(network)
        inner = layers.denoiser(symbols=len(noise), outputs=tokens)
        self.field = self.learned(inner, noise, tokens=tokens, schedule=corruption_named(schedule))
        masked = float(noise[-1]) if len(noise) > tokens else 0.0
        self.replacing = {0.0: "any token", 1.0: "a mask"}.get(masked, f"a mask ({masked:g}) or any token")

    def logits(self, t: Tensor, x: Tensor, integrate: Integrate) -> Tensor:
        return integrate.evaluate(self.field, t, x, call="logits")


def kernel_noise(kernel: Kernel, tokens: int, *, masked: float) -> Tensor:
    """The distribution of replacements: a mask, a random token, or either, with the probability `masked` of a mask.

    Raises:
        RefusedInput: `masked` is not a probability.
    """
    if not 0 < masked < 1:
        raise RefusedInput(f"model.masked must be between 0 and 1, not {masked:g}. Use model.kernel=absorbing for 1.")
    share = {"absorbing": 1.0, "uniform": 0.0, "hybrid": masked}[kernel]
    every = torch.full((tokens,), (1 - share) / tokens, dtype=torch.float64)
    return torch.cat([every, torch.tensor([share], dtype=torch.float64)]) if share else every
