"""Reversing."""

from typing import final

from torch import Tensor

from ode_runner.tasks.texts.token_sequences import TokenSequences


@final
class SequenceReverse(TokenSequences):
    """The tokens of a sequence from the last to the first."""

    def answer(self, tokens: Tensor) -> Tensor:
        return tokens.flip(1)
