"""N-gram models, with which models of texts are compared."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

from torch import Tensor

Context = tuple[int, ...]


class NGrams:
    """Counts of tokens after every context of fewer than `order` tokens, interpolated with those of shorter contexts.

    p(x | h) = (c(h x) + d(h) p(x | h')) / (c(h) + d(h)), where d(h) is the number of different tokens that followed h,
    and h' is h without its first token; the shortest context is interpolated with the uniform distribution.

    Witten, Bell. The Zero-Frequency Problem. IEEE Transactions on Information Theory 37, 1991.
    """

    def __init__(self, texts: Tensor, *, tokens: int, order: int) -> None:
        self.tokens, self.order = tokens, order
        self.followers: defaultdict[Context, Counter[int]] = defaultdict(Counter)
        for text in texts.tolist():
            for i, token in enumerate(text):
                for context in _contexts(text, i, order):
                    self.followers[context][token] += 1
        self.totals = {context: found.total() for context, found in self.followers.items()}

    def bits(self, texts: Tensor, *, order: int) -> float:
        """The mean of -log2 p per token of texts (text, position), with contexts of fewer than `order` tokens."""
        nats = [-math.log(self._distribution(text, i, order)) for text in texts.tolist() for i in range(len(text))]
        return sum(nats) / len(nats) / math.log(2)

    def _distribution(self, text: Sequence[int], i: int, order: int) -> float:
        p = 1 / self.tokens
        for context in _contexts(text, i, order):  # from the shortest
            found = self.followers.get(context)
            if found is None:
                return p
            different = len(found)
            p = (found[text[i]] + different * p) / (self.totals[context] + different)
        return p


def _contexts(text: Sequence[int], i: int, order: int) -> list[Context]:
    """The contexts of fewer than `order` tokens before position i, the empty one first."""
    return [tuple(text[i - k : i]) for k in range(min(order - 1, i) + 1)]
