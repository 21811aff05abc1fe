"""How far texts that a model draws are from those of a law."""

import math

import torch
from torch import Tensor

from ode_runner.tasks.variation import total_variation


def bigram_frequencies(texts: Tensor, tokens: int) -> Tensor:
    """Frequencies of pairs of neighbours anywhere in texts (text, position): (token, token), which sum to 1."""
    return frequencies(torch.stack([texts[:, :-1].flatten(), texts[:, 1:].flatten()], dim=1), tokens)


def frequencies(texts: Tensor, tokens: int) -> Tensor:
    """Frequencies of whole texts (text, position): (token, ..., token), which sum to 1."""
    length = texts.shape[1]
    places = texts @ tokens ** torch.arange(length - 1, -1, -1, device=texts.device)
    return torch.bincount(places, minlength=tokens**length).double().view(*[tokens] * length) / len(texts)


def bigram_variation(texts: Tensor, law: Tensor) -> float:
    """The distance in total variation of the bigrams of texts from a law of bigrams (token, token)."""
    return float(total_variation(bigram_frequencies(texts, len(law)), law.to(texts.device)))


def unigram_loss(texts: Tensor, learned: Tensor, tokens: int) -> float:
    """The mean of -log p of texts (text, position), nats a text, by the shares of tokens in others.

    Each token is counted once more than it occurs there, so that none is impossible.
    """
    counts = torch.bincount(learned.flatten(), minlength=tokens).double() + 1
    return -float((counts / counts.sum()).log()[texts].sum(dim=1).mean())


def kl_divergence(found: Tensor, law: Tensor) -> float:
    """Sum of found log(found / law), nats; infinite where something was found that the law does not know."""
    known = found > 0
    return float((found[known] * (found[known] / law[known]).log()).sum()) if known.any() else math.nan
