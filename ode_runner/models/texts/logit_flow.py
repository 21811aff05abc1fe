"""Flow matching of texts in the space of logits."""

from typing import final

import torch
from torch import Tensor

from ode_runner.errors import RefusedInput
from ode_runner.field import VectorField
from ode_runner.models.texts.coded_text import CodedField, CodedText
from ode_runner.networks.base import Network
from ode_runner.networks.tokens import two_sided_network
from ode_runner.paths.linear import Linear
from ode_runner.types import State, Time


@final
class LogitFlow(CodedText):
    """Learns the velocity from noise to logits of texts; the network's input is the softmax of the state.

    A token is represented by the logits `scale` (e_token - 1 / tokens), on the linear path from N(0, I). The network
    predicts the token of each position and is trained by the cross-entropy alone. The mean of the logits with its
    probabilities defines the velocity.

    Args:
        scale: scale of the logits. The larger it is, the earlier in sampling tokens are decided.
        end_time: the last time of sampling, at which each position becomes the token with the largest logit.

    Stark, Jing, Wang, Corso, Berger, Barzilay, Jaakkola. Dirichlet Flow Matching with Applications to DNA Sequence
    Design. ICML 2024. · Eijkelboom, Bartosh, Naesseth, Welling, van de Meent. Variational Flow Matching for Graph
    Generation. NeurIPS 2024. Both have another path.
    """

    def __init__(self, network: Network, *, scale: float, end_time: float) -> None:
        layers, tokens = two_sided_network(network, "logit_flow"), network.spec.tokens
        if scale <= 0:
            raise RefusedInput(f"model.scale must be above 0, not {scale:g}. Use model.scale=3.")
        super().__init__(network, end_time=end_time, regression=0.0)
        self.coded = f"logits of scale {scale:g}"
        self.field = LogitField(layers.denoiser(symbols=tokens, outputs=tokens), tokens=tokens, scale=scale)


@final
class LogitField(CodedField):
    """The field by a network of probabilities of tokens, (batch, position, tokens)."""

    points: Tensor

    def __init__(self, inner: VectorField, *, tokens: int, scale: float) -> None:
        super().__init__()
        self.inner, self.path, self.batched_time = inner, Linear(), inner.batched_time
        self.register_buffer("points", logit_codes(tokens, scale), persistent=False)

    def codes(self) -> Tensor:
        return self.points

    def logits(self, t: Time, x: State, *given: Tensor) -> Tensor:
        return self.inner(t, x.softmax(dim=-1), *given)


def logit_codes(tokens: int, scale: float) -> Tensor:
    """The logits that represent each token, (token, token): higher by `scale` for the token, with mean 0."""
    return scale * (torch.eye(tokens) - 1 / tokens)
