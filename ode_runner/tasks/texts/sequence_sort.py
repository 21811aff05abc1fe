"""The task of sorting a sequence of tokens."""

from typing import final

from torch import Tensor

from ode_runner.tasks.texts.token_sequences import TokenSequences


@final
class SequenceSort(TokenSequences):
    """The target is the tokens in ascending order."""

    def answer(self, tokens: Tensor) -> Tensor:
        return tokens.sort(dim=1).values
