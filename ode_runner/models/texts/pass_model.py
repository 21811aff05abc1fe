"""What the models share that know the likelihood of a text: baselines of those that lift masks."""

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
    """Logits of the tokens of a text, by those of them that it lets each position see. It has no derivative."""

    call_weights: ClassVar[Mapping[str, float]] = {"logits": 1}

    @abc.abstractmethod
    def logits(self, t: Time, x: Tensor, *given: Tensor) -> Tensor:
        """Logits of the tokens of a text (batch, position): (batch, position, tokens)."""

    def forward(self, t: Time, y: State, *given: Tensor) -> State:
        raise NotImplementedError("a field of texts has logits, and no derivative")


class LearnedTokens(TextField):
    """What a network says, which is told some of the tokens.

    `inner` reads tokens, and `tokens`, the number behind the last, in the place of one that it is not told.
    """

    def __init__(self, inner: VectorField, *, tokens: int) -> None:
        super().__init__()
        self.inner, self.tokens = inner, tokens

    @abc.abstractmethod
    def seen(self, x: Tensor) -> Tensor:
        """What `inner` is given of a text (batch, position)."""

    def logits(self, t: Time, x: Tensor, *given: Tensor) -> Tensor:
        return self.inner(t, self.seen(x), *given)


class PassModel(TextModel, TextLearner):
    """Learns a law of texts that is a product over positions. Nothing is solved; a text takes so many passes.

    Values are log likelihoods, in nats.
    """

    numerics: ClassVar[Numerics] = Numerics.NONE
    objective: ClassVar[Objective[TextLearner]] = TextLikelihood()
    instead: ClassVar[str] = "passes"
    field: LearnedTokens

    @property
    @abc.abstractmethod
    def passes(self) -> int:
        """How many passes draw a text, from the first token to the last."""

    def log_likelihood(self, text: Tensor, integrate: Integrate) -> Tensor:
        time = torch.zeros((), device=text.device)
        return log_probabilities(integrate.evaluate(self.field, time, text, call="logits"), text).sum(dim=1)

    def generator(self) -> TextGenerator:
        return PassGenerator(field=self.field, shape=self.shape, start=1.0, end=0.0, passes=self.passes)


@final
@dataclass(frozen=True, kw_only=True)
class PassGenerator(TextGenerator):
    """Draws a text from the first token to the last, as many of them in each pass as make `passes` passes."""

    field: LearnedTokens
    passes: int

    def completing(self, text: Tensor) -> Self:
        """See `TextGenerator`.

        Raises:
            RefusedInput: a blank stands before what is known, which a model of several passes cannot take into account.
        """
        blank = text == self.field.tokens
        if self.passes > 1 and bool((blank[:-1] & ~blank[1:]).any()):
            raise RefusedInput(
                "this model says each token by those before it, so that it completes beginnings of texts only: all "
                "blanks must be at the end. Use model=masked_diffusion for others."
            )
        return replace(self, text=text)

    def begin(self, noise: Noise, *, dtype: torch.dtype) -> Tensor:
        """Blanks, with the given tokens in their places."""
        del dtype
        blanks = torch.full((len(noise.samples), *self.shape), self.field.tokens, device=noise.samples.device)
        return blanks if self.text is None else self.text.expand_as(blanks)

    def path(self, y0: State, ts: Times, noise: Noise, integrate: Integrate, given: Sequence[Tensor]) -> Tensor:
        """The texts after some of the passes, even over `ts`. The blanks of `y0` are drawn from left to right."""
        states, time = [y0], torch.zeros((), dtype=torch.float64, device=y0.device)
        uniform = noise.uniform(time, 0, self.shape)
        for positions in torch.arange(y0.shape[1], device=y0.device).tensor_split(self.passes):
            logits = integrate.evaluate(self.field, time, states[-1], given=given, call="logits")[:, positions]
            drawn = draw_categorical(logits.double().softmax(dim=-1), uniform[:, positions])
            filled = states[-1].index_copy(1, positions, drawn)
            states.append(torch.where(y0 == self.field.tokens, filled, states[-1]))
        shown = torch.linspace(0, self.passes, len(ts)).round().int().tolist()
        return torch.stack([states[i] for i in shown])
