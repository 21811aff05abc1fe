"""Distributions of texts with tractable sums: Markov chains, tables, brackets."""

import abc
import math
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from ode_runner.paths.corruption import LinearCorruption
from ode_runner.paths.token_field import KnownTokenField


class TextDistribution(KnownTokenField):
    """A distribution of texts, as the field between it and all masks; the share of masks rises linearly in time.

    `entropy` is in nats per text.
    """

    entropy: float
    always_possible: bool  # whether every text has a positive probability
    has_invalid: bool  # whether some texts are not valid

    def __init__(self, *, tokens: int, length: int) -> None:
        super().__init__()
        self.tokens, self.length, self.schedule = tokens, length, LinearCorruption()

    @abc.abstractmethod
    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Texts (count, position), on the CPU."""

    def valid(self, x: Tensor) -> Tensor:
        """Whether texts (batch, position) are valid under the distribution, (batch,)."""
        return self.log_density(x) > -math.inf

    def bigrams(self) -> Tensor:
        """The distribution of adjacent token pairs, averaged over positions: (token, token), sum 1."""
        x, time = torch.full((self.tokens, self.length), self.mask, device=self.device), torch.ones(())
        joint = torch.zeros(self.tokens, self.tokens, dtype=torch.float64, device=self.device)
        for i in range(self.length - 1):
            first = self.denoise(time, x[:1])[0, i]
            known = x.clone()
            known[:, i] = torch.arange(self.tokens, device=self.device)
            joint += first[:, None] * self.denoise(time, known)[:, i + 1] / (self.length - 1)
        return joint

    @property
    def device(self) -> torch.device:
        """The device of its tensors."""
        return next((buffer.device for buffer in self.buffers()), torch.device("cpu"))


@final
class MarkovDistribution(TextDistribution):
    """A Markov chain: each token depends on the one before, and the first has the stationary distribution.

    A text is invalid, though possible, if one of its transitions has a probability of at most `UNLIKELY`.

    Args:
        transition: (token, token), positive, with rows that sum to 1.
        length: tokens of a text.
    """

    UNLIKELY = 0.01
    always_possible = has_invalid = True
    transition: Tensor
    start: Tensor

    def __init__(self, transition: Tensor, *, length: int) -> None:
        super().__init__(tokens=len(transition), length=length)
        self.register_buffer("transition", transition.double(), persistent=False)
        self.register_buffer("start", stationary(self.transition), persistent=False)
        inner = torch.special.entr(self.transition).sum(dim=1)
        self.entropy = float((length - 1) * self.start @ inner + torch.special.entr(self.start).sum())

    def likelihood(self, evidence: Tensor) -> Tensor:
        weights = self.start * evidence[:, 0]
        for at in evidence.unbind(dim=1)[1:]:
            weights = weights @ self.transition * at
        return weights.sum(dim=1)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        found = [torch.multinomial(self.start.cpu(), count, replacement=True, generator=generator)]
        for _ in range(self.length - 1):
            found.append(torch.multinomial(self.transition.cpu()[found[-1]], 1, generator=generator)[:, 0])
        return torch.stack(found, dim=1)

    def valid(self, x: Tensor) -> Tensor:
        return (self.transition[x[:, :-1], x[:, 1:]] > self.UNLIKELY).all(dim=1)


@final
class TableDistribution(TextDistribution):
    """A distribution of texts given by a table of probabilities.

    Args:
        table: (token, ..., token), with an axis for each position and sum 1.
    """

    table: Tensor

    def __init__(self, table: Tensor) -> None:
        super().__init__(tokens=table.shape[0], length=table.dim())
        self.register_buffer("table", table.double(), persistent=False)
        self.entropy = -float(torch.special.xlogy(self.table, self.table).sum())
        self.always_possible = bool((self.table > 0).all())
        self.has_invalid = not self.always_possible

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        indices = torch.multinomial(self.table.cpu().flatten(), count, replacement=True, generator=generator)
        return torch.stack(torch.unravel_index(indices, self.table.shape), dim=1)

    def likelihood(self, evidence: Tensor) -> Tensor:
        weights = self.table.expand(len(evidence), *self.table.shape)
        for at in evidence.unbind(dim=1):
            weights = torch.einsum("bv...,bv->b...", weights, at)
        return weights


@final
class BracketDistribution(TextDistribution):
    """Balanced brackets of several kinds; all texts of the given length are equally likely.

    Token 2k opens a bracket of kind k, and 2k + 1 closes it. A text is empty, or a pair of brackets around a text,
    followed by a text. This grammar is unambiguous, so that a sum over texts can be computed over spans, as in parsing.

    Baker. Trainable grammars for speech recognition. 1979, for the inside algorithm.
    """

    always_possible, has_invalid = False, True

    def __init__(self, *, kinds: int, length: int) -> None:
        super().__init__(tokens=2 * kinds, length=length)
        pairs = length // 2
        self.count = math.comb(2 * pairs, pairs) // (pairs + 1) * kinds**pairs
        self.entropy = math.log(self.count)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        ways, rows = self._ways(), torch.arange(count)
        depth, opened, found = torch.zeros(count, dtype=torch.int64), torch.zeros(count, self.length + 1).long(), []
        for left in reversed(range(self.length)):
            up, down = ways[left][depth + 1], ways[left][depth - 1] * (depth > 0)
            opens = torch.rand(count, generator=generator, dtype=torch.float64) * (up + down) < up
            kind = torch.randint(self.tokens // 2, (count,), generator=generator)
            kind = torch.where(opens, kind, opened[rows, depth - 1])
            opened[rows, depth] = torch.where(opens, kind, opened[rows, depth])
            depth = depth + torch.where(opens, 1, -1)
            found.append(2 * kind + ~opens)
        return torch.stack(found, dim=1)

    def _ways(self) -> Tensor:
        """The number of ways to balance `depth` open brackets with `left` more of one kind, (left, depth)."""
        ways = torch.zeros(self.length + 1, self.length + 2, dtype=torch.float64)
        ways[0, 0] = 1
        for left in range(1, self.length + 1):
            ways[left, :-1] = ways[left - 1, 1:]
            ways[left, 1:] += ways[left - 1, :-1]
        return ways

    def likelihood(self, evidence: Tensor) -> Tensor:
        opening, closing = evidence[..., 0::2], evidence[..., 1::2]
        inside = {(i, i): evidence.new_ones(len(evidence)) for i in range(self.length + 1)}
        for span in range(2, self.length + 1, 2):
            for i in range(self.length - span + 1):
                parts = [
                    (opening[:, i] * closing[:, j]).sum(dim=1) * inside[i + 1, j] * inside[j + 1, i + span]
                    for j in range(i + 1, i + span, 2)
                ]
                inside[i, i + span] = torch.stack(parts).sum(dim=0)
        return inside[0, self.length] / self.count


def random_transition(tokens: int, *, scale: float, seed: int) -> Tensor:
    """Row-wise softmax of scaled normal numbers: (token, token)."""
    normal = torch.randn(tokens, tokens, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)
    return torch.softmax(scale * normal.double(), dim=1)


def random_table(tokens: int, length: int, *, concentration: float, seed: int) -> Tensor:
    """Probabilities from a symmetric Dirichlet distribution, (token, ..., token)."""
    rates = torch.full((tokens**length,), concentration, dtype=torch.float64)
    drawn = torch._standard_gamma(rates, generator=torch.Generator().manual_seed(seed))
    return (drawn / drawn.sum()).view(*[tokens] * length)


def pairs_table(pairs: Sequence[Sequence[int]], tokens: int) -> Tensor:
    """The probabilities of texts of two tokens, equal for `pairs` and 0 for others: (token, token)."""
    table = torch.zeros(tokens, tokens, dtype=torch.float64)
    for first, second in pairs:
        table[first, second] = 1 / len(pairs)
    return table


def stationary(transition: Tensor) -> Tensor:
    """The stationary distribution of a transition matrix (token, token).

    Tokens are eliminated one by one without any subtraction, so that small probabilities are relatively accurate too.

    Grassmann, Taksar, Heyman. Regenerative Analysis and Steady State Distributions for Markov Chains. Operations
    Research 33, 1985.
    """
    rates = transition.double().clone()
    for k in range(len(rates) - 1, 0, -1):
        rates[:k, k] /= rates[k, :k].sum()
        rates[:k, :k] += rates[:k, k, None] * rates[k, :k]
    found = rates.new_ones(len(rates))
    for k in range(1, len(rates)):
        found[k] = found[:k] @ rates[:k, k]
    return found / found.sum()
