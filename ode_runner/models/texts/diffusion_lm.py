"""Diffusion of texts in the space of embeddings."""

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ode_runner.field import VectorField
from ode_runner.models.texts.coded_text import CodedField, CodedText
from ode_runner.networks.base import Network
from ode_runner.networks.sizes import check_sizes
from ode_runner.networks.tokens import two_sided_network
from ode_runner.paths.linear import Linear
from ode_runner.types import State, Time


@final
class DiffusionLM(CodedText):
    """Learns embeddings of tokens, what they were before noise was mixed with them, and to round them to tokens.

    Embeddings have length 1, for a squared error is least where all are the same, and the noise that hides them is by
    their length. What keeps them apart is the cross-entropy of rounding: the network says a vector for each position,
    whose products with the embeddings are the logits of its token, and the mean embedding by these is what it takes the
    data to be.

    Args:
        dimension: numbers of an embedding.
        regression: weight of the squared error of embeddings, as a bound of the likelihood.
        end_time: where samples end, and become the tokens of the nearest embeddings.

    Li, Thickstun, Gulrajani, Liang, Hashimoto. Diffusion-LM Improves Controllable Text Generation. NeurIPS 2022. ·
    Dieleman et al. Continuous Diffusion for Categorical Data. 2022, for lengths and means of embeddings.
    """

    def __init__(self, network: Network, *, dimension: int, regression: float, end_time: float) -> None:
        layers, tokens = two_sided_network(network, "diffusion_lm"), network.spec.tokens
        check_sizes("model", dimension=dimension)
        super().__init__(network, end_time=end_time, regression=regression)
        self.coded = f"embeddings of {dimension} numbers"
        self.field = EmbeddedField(layers.denoiser(symbols=dimension, outputs=dimension), tokens=tokens, size=dimension)


@final
class EmbeddedField(CodedField):
    """What a network says of noisy embeddings, (batch, position, size), by learned embeddings of so many tokens."""

    def __init__(self, inner: VectorField, *, tokens: int, size: int) -> None:
        super().__init__()
        self.inner, self.path, self.batched_time = inner, Linear(), inner.batched_time
        self.embedding = nn.Parameter(torch.randn(tokens, size))

    def codes(self) -> Tensor:
        return F.normalize(self.embedding, dim=1)

    def logits(self, t: Time, x: State, *given: Tensor) -> Tensor:
        return self.inner(t, x, *given) @ self.codes().T
