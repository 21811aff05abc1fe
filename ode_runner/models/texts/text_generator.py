"""Generators of texts, whole or with some tokens given."""

import abc
from dataclasses import dataclass
from typing import Self

from torch import Tensor

from ode_runner.models.generator import Generator


@dataclass(frozen=True, kw_only=True)
class TextGenerator(Generator, abc.ABC):
    """A generator of texts, which draws whole texts, or the blanks of a given text.

    `text` is the given text, (position,); the number after the last token is a blank. None: all tokens are drawn.
    """

    text: Tensor | None = None

    @abc.abstractmethod
    def completing(self, text: Tensor) -> Self:
        """The generator that draws the blanks of a text, (position,), and leaves its tokens as they are.

        Raises:
            RefusedInput: the generator cannot draw blanks at these positions.
        """
