"""Generators of texts, whole or with some tokens given."""

import abc
from dataclasses import dataclass
from typing import Self

from torch import Tensor

from ode_runner.models.generator import Generator


@dataclass(frozen=True, kw_only=True)
class TextGenerator(Generator, abc.ABC):
    """A generator of texts, which draws whole ones, or the blanks of one that is given.

    `text` is that text, (position,), in which the number behind the last token is a blank; None: all are drawn.
    """

    text: Tensor | None = None

    @abc.abstractmethod
    def completing(self, text: Tensor) -> Self:
        """The generator that draws the blanks of a text, (position,), and leaves its tokens as they are.

        Raises:
            RefusedInput: it cannot be drawn where these blanks are.
        """
