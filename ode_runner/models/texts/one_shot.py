"""Texts in one pass: a non-autoregressive baseline."""

from typing import ClassVar, final

import torch
from torch import Tensor

from ode_runner.models.texts.pass_model import LearnedTokens, PassModel
from ode_runner.networks.base import Network
from ode_runner.networks.tokens import token_network


@final
class OneShot(PassModel):
    """p(x) as a product of independent distributions of the positions: a text takes one pass.

    At best it learns the frequencies of tokens at each position, without dependence between positions. It is a baseline
    for models that take several passes.

    Gu, Bradbury, Xiong, Li, Socher. Non-Autoregressive Neural Machine Translation. ICLR 2018.
    """

    joins_tokens: ClassVar[bool] = False

    def __init__(self, network: Network) -> None:
        layers, spec = token_network(network, "one_shot"), network.spec
        super().__init__(network)
        self.field = NoTokens(layers.denoiser(symbols=spec.tokens + 1, outputs=spec.tokens), tokens=spec.tokens)

    @property
    def passes(self) -> int:
        return 1


@final
class NoTokens(LearnedTokens):
    """All positions receive blanks."""

    def seen(self, x: Tensor) -> Tensor:
        return torch.full_like(x, self.tokens)
