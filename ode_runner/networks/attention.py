"""Self-attention, and Transformer layers."""

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LONGEST = 10_000.0  # longest period of the rotary encoding, in positions, divided by 2 pi


@dataclass(frozen=True, kw_only=True)
class LayerSizes:
    """The options that all layers of a network share."""

    inner: int  # features of all heads together
    heads: int
    hidden: int  # units of the feed-forward part's hidden layer
    causal: bool  # no position sees a later one
    rotary: bool  # rotary position encoding: scores depend on relative positions


@final
class Attention(nn.Module):
    """softmax(q k^T / sqrt(d)) v with several heads, for features (batch, positions, features).

    With `rotary`, queries and keys are rotated by angles proportional to the position, so that scores depend on
    relative positions. Keys have no bias, since the softmax would cancel it.

    Vaswani et al. Attention Is All You Need. NeurIPS 2017. · Su, Lu, Pan, Murtadha, Wen, Liu. RoFormer. 2021.
    """

    frequencies: Tensor

    def __init__(self, features: int, sizes: LayerSizes) -> None:
        super().__init__()
        self.heads, self.causal, self.rotary = sizes.heads, sizes.causal, sizes.rotary
        self.read = nn.Linear(features, 3 * sizes.inner, bias=False)
        self.write = nn.Linear(sizes.inner, features)
        pairs = sizes.inner // sizes.heads // 2
        frequencies = LONGEST ** (-torch.arange(pairs) / max(pairs, 1))
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.read(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if self.rotary:
            angles = torch.arange(x.shape[1], device=x.device)[:, None] * self.frequencies
            q, k = turned(q, angles), turned(k, angles)
        return self.write(attended(q, k, v, causal=self.causal).transpose(1, 2).flatten(2))


def attended(q: Tensor, k: Tensor, v: Tensor, *, causal: bool) -> Tensor:
    """softmax(q k^T / sqrt(d)) v for (batch, heads, positions, d).

    PyTorch's fused function supports only first reverse-mode derivatives. Under torch.func, where second and
    forward-mode derivatives are needed, it is therefore computed step by step.
    """
    if not torch._C._are_functorch_transforms_active():
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    if causal:
        later = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(later, -torch.inf)
    return scores.softmax(dim=-1) @ v


def turned(x: Tensor, angles: Tensor) -> Tensor:
    """Rotates pairs of elements of `x` (..., positions, d), each by an angle of (positions, d / 2)."""
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


@final
class Norm(nn.Module):
    """Layer normalisation; scale and shift are learned, or affine functions of `conditioning` numbers (FiLM).

    Perez, Strub, de Vries, Dumoulin, Courville. FiLM. AAAI 2018.
    """

    def __init__(self, features: int, *, conditioning: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(features, elementwise_affine=not conditioning)
        self.film = nn.Linear(conditioning, 2 * features) if conditioning else None

    def forward(self, x: Tensor, conditioning: Tensor | None = None) -> Tensor:
        x = self.norm(x)
        if self.film is None:
            return x
        scale, shift = self.film(conditioning)[:, None].chunk(2, dim=-1)
        return torch.addcmul(shift, 1 + scale, x)


@final
class Part(nn.Module):
    """Normalises features (batch, positions, features), then applies `inner`."""

    def __init__(self, norm: Norm, inner: nn.Module) -> None:
        super().__init__()
        self.norm, self.inner = norm, inner

    def forward(self, x: Tensor, conditioning: Tensor | None = None) -> Tensor:
        return self.inner(self.norm(x, conditioning))


@final
class Layer(nn.Module):
    """Pre-norm attention A, `attend`, and a pre-norm feed-forward part M, `transform`, for each position separately.

    The forward pass returns the increment A(x) + M(x + A(x)), without the skip connection of the layer.

    Xiong et al. On Layer Normalization in the Transformer Architecture. ICML 2020, for its place.
    """

    def __init__(self, features: int, sizes: LayerSizes, *, conditioning: int = 0) -> None:
        super().__init__()
        feedforward = nn.Sequential(nn.Linear(features, sizes.hidden), nn.GELU(), nn.Linear(sizes.hidden, features))
        self.attend: nn.Module = Part(Norm(features, conditioning=conditioning), Attention(features, sizes))
        self.transform: nn.Module = Part(Norm(features, conditioning=conditioning), feedforward)

    def forward(self, x: Tensor, conditioning: Tensor | None = None) -> Tensor:
        attended = self.attend(x, conditioning)
        return attended + self.transform(x + attended, conditioning)
