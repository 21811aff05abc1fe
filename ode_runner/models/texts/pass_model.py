"""Base classes of models with an exact likelihood of texts, as baselines of diffusion models."""

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self, final

import torch
from torch import Tensor

from ode_runner.errors import RefusedInput
from ode_runner.field import VectorField
from ode_runner.models.base import Numerics
from ode_runner.models.texts.text_generator import TextGenerator
from ode_runner.models.texts.text_model import TextModel
from ode_runner.noise.brownian_path import Noise
from ode_runner.noise.hashed_numbers import draw_categorical
from ode_runner.objectives.base import Objective
from ode_runner.objectives.text_likelihood import TextLearner, TextLikelihood, log_probabilities
from ode_runner.problem import Integrate
from ode_runner.types import State, Time, Times


class TextField(VectorField):
    """Logits of the tokens of a text, each from those tokens that its position may see. It has no derivative."""

    call_weights: ClassVar[Mapping[str, float]] = {"logits": 1}

    @abc.abstractmethod
    def logits(self, t: Time, x: Tensor, *given: Tensor) -> Tensor:
        """Logits of the tokens of a text (batch, position): (batch, position, tokens)."""

    def forward(self, t: Time, y: State, *given: Tensor) -> State:
        raise NotImplementedError("a field of texts has logits, and no derivative")


class LearnedTokens(TextField):
    """The logits by a network that sees some of the tokens.

    The input of `inner` are tokens; the number `tokens`, after the last token, is a blank.
    """

    def __init__(self, inner: VectorField, *, tokens: int) -> None:
        super().__init__()
        self.inner, self.tokens = inner, tokens

    @abc.abstractmethod
    def seen(self, x: Tensor) -> Tensor:
        """The input of `inner` for a text (batch, position)."""

    def logits(self, t: Time, x: Tensor, *given: Tensor) -> Tensor:
        return self.inner(t, self.seen(x), *given)


class PassModel(TextModel, TextLearner):
    """Learns a distribution of texts that is a product over positions, without a solve.

    Values are log likelihoods, in nats.
    """

    numerics: ClassVar[Numerics] = Numerics.NONE
    objective: ClassVar[Objective[TextLearner]] = TextLikelihood()
    instead: ClassVar[str] = "passes"
    field: LearnedTokens

    @property
    @abc.abstractmethod
    def passes(self) -> int:
        """The number of passes that draw a text."""

    def log_likelihood(self, text: Tensor, integrate: Integrate) -> Tensor:
        time = torch.zeros((), device=text.device)
        return log_probabilities(integrate.evaluate(self.field, time, text, call="logits"), text).sum(dim=1)

    def generator(self) -> TextGenerator:
        return PassGenerator(field=self.field, shape=self.shape, start=1.0, end=0.0, passes=self.passes)


@final
@dataclass(frozen=True, kw_only=True)
class PassGenerator(TextGenerator):
    """Draws a text from the first token to the last in `passes` passes, of equally many tokens."""

    field: LearnedTokens
    passes: int

    def completing(self, text: Tensor) -> Self:
        """See `TextGenerator`.

        Raises:
            RefusedInput: a blank is before a given token, which a model of several passes cannot take into account.
        """
        blank = text == self.field.tokens
        if self.passes > 1 and bool((blank[:-1] & ~blank[1:]).any()):
            raise RefusedInput(
                "this model predicts each token from those before it, so that it completes beginnings of texts only: "
                "all blanks must be at the end. Use model=masked_diffusion for others."
            )
        return replace(self, text=text)

    def begin(self, noise: Noise, *, dtype: torch.dtype) -> Tensor:
        """Blanks, and the given tokens at their positions."""
        del dtype
        blanks = torch.full((len(noise.samples), *self.shape), self.field.tokens, device=noise.samples.device)
        return blanks if self.text is None else self.text.expand_as(blanks)

    def path(self, y0: State, ts: Times, noise: Noise, integrate: Integrate, given: Sequence[Tensor]) -> Tensor:
        """The texts after some of the passes, evenly spaced over `ts`. Blanks of `y0` are drawn from left to right."""
        states, time = [y0], torch.zeros((), dtype=torch.float64, device=y0.device)
        uniform = noise.uniform(time, 0, self.shape)
        for positions in torch.arange(y0.shape[1], device=y0.device).tensor_split(self.passes):
            logits = integrate.evaluate(self.field, time, states[-1], given=given, call="logits")[:, positions]
            drawn = draw_categorical(logits.double().softmax(dim=-1), uniform[:, positions])
            filled = states[-1].index_copy(1, positions, drawn)
            states.append(torch.where(y0 == self.field.tokens, filled, states[-1]))
        shown = torch.linspace(0, self.passes, len(ts)).round().int().tolist()
        return torch.stack([states[i] for i in shown])
