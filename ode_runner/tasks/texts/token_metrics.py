"""Distances between texts that a model draws and a distribution of texts."""

import math

import torch
from torch import Tensor

from ode_runner.tasks.variation import total_variation


def bigram_frequencies(texts: Tensor, tokens: int) -> Tensor:
    """The frequencies of adjacent token pairs in texts (text, position): (token, token), sum 1."""
    return frequencies(torch.stack([texts[:, :-1].flatten(), texts[:, 1:].flatten()], dim=1), tokens)


def frequencies(texts: Tensor, tokens: int) -> Tensor:
    """The frequencies of whole texts (text, position): (token, ..., token), sum 1."""
    length = texts.shape[1]
    indices = texts @ tokens ** torch.arange(length - 1, -1, -1, device=texts.device)
    return torch.bincount(indices, minlength=tokens**length).double().view(*[tokens] * length) / len(texts)


def bigram_variation(texts: Tensor, distribution: Tensor) -> float:
    """The total variation distance between the bigrams of texts and a distribution of bigrams (token, token)."""
    return float(total_variation(bigram_frequencies(texts, len(distribution)), distribution.to(texts.device)))


def unigram_loss(texts: Tensor, learned: Tensor, tokens: int) -> float:
    """The mean of -log p of texts (text, position), in nats per text; p are the token frequencies of `learned`.

    One is added to each count, so that no token has probability 0.
    """
    counts = torch.bincount(learned.flatten(), minlength=tokens).double() + 1
    return -float((counts / counts.sum()).log()[texts].sum(dim=1).mean())


def kl_divergence(q: Tensor, p: Tensor) -> float:
    """The sum of q log(q / p), in nats; infinite if `p` is 0 where `q` is not."""
    found = q > 0
    return float((q[found] * (q[found] / p[found]).log()).sum()) if found.any() else math.nan
