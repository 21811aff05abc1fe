"""Embeddings of tokens, rows of numbers or images as features of positions, and the inverse."""

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SPREAD = 0.3  # initial standard deviation of learned vectors, as of a linear layer's features of rows or patches


@final
class TokenEmbedding(nn.Module):
    """A learned vector for each token.

    Integers (batch, positions) are tokens; floats (batch, positions, tokens) are weights of the tokens, such as
    probabilities.
    """

    def __init__(self, symbols: int, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(SPREAD * torch.randn(symbols, features))

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens @ self.weight if tokens.is_floating_point() else F.embedding(tokens, self.weight)


@final
class Positions(nn.Module):
    """Adds a learned vector for each position to features (batch, positions, features)."""

    def __init__(self, positions: int, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(SPREAD * torch.randn(positions, features))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.weight[: x.shape[1]]


@final
class ToPatches(nn.Module):
    """Splits images (batch, channels, height, width) into patches (batch, patches, channels * side * side) by rows."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, images: Tensor) -> Tensor:
        return F.pixel_unshuffle(images, self.side).flatten(2).mT


@final
class FromPatches(nn.Module):
    """The inverse of `ToPatches`; `height` is the image's height in patches."""

    def __init__(self, side: int, *, height: int) -> None:
        super().__init__()
        self.side, self.height = side, height

    def forward(self, patches: Tensor) -> Tensor:
        return F.pixel_shuffle(patches.mT.unflatten(2, (self.height, -1)), self.side)


@final
class FeaturesFirst(nn.Module):
    """Transposes (batch, positions, features) to a state (batch, features, positions), or back."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mT
