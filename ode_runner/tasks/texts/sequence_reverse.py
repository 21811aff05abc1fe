"""The task of reversing a sequence of tokens."""

from typing import final

from torch import Tensor

from ode_runner.tasks.texts.token_sequences import TokenSequences


@final
class SequenceReverse(TokenSequences):
    """The target is the tokens in reverse order."""

    def answer(self, tokens: Tensor) -> Tensor:
        return tokens.flip(1)
