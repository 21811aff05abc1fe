"""From tokens, rows of numbers or images to features of positions, and back."""

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SPREAD = 0.3  # of learned vectors at the beginning: about that of an affine map of rows or patches beside them


@final
class TokenEmbedding(nn.Module):
    """A learned vector for each symbol.

    Whole numbers (batch, positions) are symbols; real ones (batch, positions, symbols) are weights of the symbols, such
    as probabilities.
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
    """Images (batch, channels, height, width) to their patches (batch, patches, channels * side * side), row by row."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, images: Tensor) -> Tensor:
        return F.pixel_unshuffle(images, self.side).flatten(2).mT


@final
class FromPatches(nn.Module):
    """The inverse of `ToPatches`, of images `height` patches high."""

    def __init__(self, side: int, *, height: int) -> None:
        super().__init__()
        self.side, self.height = side, height

    def forward(self, patches: Tensor) -> Tensor:
        return F.pixel_shuffle(patches.mT.unflatten(2, (self.height, -1)), self.side)


@final
class FeaturesFirst(nn.Module):
    """Features of positions (batch, positions, features) to a state (batch, features, positions), or back."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mT
