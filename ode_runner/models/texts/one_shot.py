"""Texts all at once."""

from typing import final

import torch
from torch import Tensor

from ode_runner.models.texts.pass_model import LearnedTokens, PassModel
from ode_runner.networks.base import Network
from ode_runner.networks.tokens import token_network


@final
class OneShot(PassModel):
    """p(x) as the product of laws of the positions, none of which sees a token: a text in one pass.

    The best that it can learn is how often a token stands at each position, and no dependence: a baseline for models
    that take several passes.

    Gu, Bradbury, Xiong, Li, Socher. Non-Autoregressive Neural Machine Translation. ICLR 2018.
    """

    def __init__(self, network: Network) -> None:
        layers, spec = token_network(network, "one_shot"), network.spec
        super().__init__(network)
        self.field = NoTokens(layers.denoiser(symbols=spec.tokens + 1, outputs=spec.tokens), tokens=spec.tokens)

    @property
    def passes(self) -> int:
        return 1


@final
class NoTokens(LearnedTokens):
    """No position is told a token."""

    def seen(self, x: Tensor) -> Tensor:
        return torch.full_like(x, self.tokens)
