"""An autoregressive model of texts."""

from typing import final

import torch
from torch import Tensor

from ode_runner.errors import IncompatibleChoice
from ode_runner.models.texts.pass_model import LearnedTokens, PassModel
from ode_runner.networks.base import Network
from ode_runner.networks.tokens import token_network


@final
class Autoregressive(PassModel):
    """p(x) as the product of the conditional probabilities of each token given the previous ones, by a causal network.

    The likelihood of a text takes one pass, a sample one pass per token.

    Bengio, Ducharme, Vincent, Jauvin. A Neural Probabilistic Language Model. JMLR 2003. · Vaswani et al. Attention Is
    All You Need. NeurIPS 2017.
    """

    def __init__(self, network: Network) -> None:
        layers, spec = token_network(network, "autoregressive"), network.spec
        if not layers.causal:
            raise IncompatibleChoice(
                "model=autoregressive predicts each token from those before it, and network.causal=false lets "
                "positions see later ones. Use network.causal=true."
            )
        super().__init__(network)
        self.field = EarlierTokens(layers.denoiser(symbols=spec.tokens + 1, outputs=spec.tokens), tokens=spec.tokens)

    @property
    def passes(self) -> int:
        return self.shape[0]


@final
class EarlierTokens(LearnedTokens):
    """Each position receives the previous token, and the first one a blank."""

    def seen(self, x: Tensor) -> Tensor:
        return torch.cat([torch.full_like(x[:, :1], self.tokens), x[:, :-1]], dim=1)
