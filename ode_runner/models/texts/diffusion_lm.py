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
    """Learns embeddings of tokens, to denoise them, and to round them to tokens.

    Embeddings have norm 1, because the noise that hides them is relative to their norm. The squared error alone would
    make all of them equal; the cross-entropy of rounding keeps them apart. The network outputs a vector per position,
    whose products with the embeddings are the logits of the token. The denoised state is the mean embedding with these
    probabilities.

    Args:
        dimension: size of an embedding.
        regression: weight of the squared error of embeddings, as a bound of the likelihood.
        end_time: the last time of sampling, at which samples become the tokens of the nearest embeddings.

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
    """The field by a network of noisy embeddings, (batch, position, size), and learned embeddings of tokens."""

    def __init__(self, inner: VectorField, *, tokens: int, size: int) -> None:
        super().__init__()
        self.inner, self.path, self.batched_time = inner, Linear(), inner.batched_time
        self.embedding = nn.Parameter(torch.randn(tokens, size))

    def codes(self) -> Tensor:
        return F.normalize(self.embedding, dim=1)

    def logits(self, t: Time, x: State, *given: Tensor) -> Tensor:
        return self.inner(t, x, *given) @ self.codes().T
