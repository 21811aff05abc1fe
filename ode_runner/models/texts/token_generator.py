"""The generator of texts by a Markov chain of tokens."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self, final

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ode_runner.models.texts.text_generator import TextGenerator
from ode_runner.noise.brownian_path import Noise
from ode_runner.noise.hashed_numbers import draw_categorical
from ode_runner.paths.token_field import MaskedField, TokenField
from ode_runner.problem import Integrate
from ode_runner.types import Time, Times

BEGIN, FINISH = 2.0, -1.0  # times outside of solves, as keys of the random numbers for initial and final draws


@final
@dataclass(frozen=True, kw_only=True)
class TokenGenerator(TextGenerator):
    """Solves a token field from noise at `start` to text at `end`.

    As for any sample, the noise of a text is a function of its number. After a solve to t = 0, positions that are still
    masked are drawn, for one further evaluation.

    Given tokens are present from the beginning. With masks as noise, such a state occurs in the process itself, so that
    blanks are drawn from their exact conditional distribution. With other noise it is an approximation: see
    `ClampedText`.
    """

    field: TokenField

    def completing(self, text: Tensor) -> Self:
        field = self.field if isinstance(self.field, MaskedField) else ClampedText(self.field, text)
        return replace(self, field=field, text=text)

    def begin(self, noise: Noise, *, dtype: torch.dtype) -> Tensor:
        del dtype
        x = self.field.begin(noise.uniform(_time(BEGIN, noise), 0, self.shape))
        return x if self.text is None else torch.where(self.text < self.field.tokens, self.text, x)

    def finished(self, path: Tensor, noise: Noise, integrate: Integrate, given: Sequence[Tensor]) -> Tensor:
        x = path[-1]
        if self.end > 0 or bool((x < self.field.tokens).all()):
            return path
        denoised = integrate.evaluate(self.field, _time(self.end, noise), x, given=given, call="denoise").double()
        drawn = draw_categorical(denoised, noise.uniform(_time(FINISH, noise), 0, self.shape))
        return torch.cat([path[:-1], torch.where(x < self.field.tokens, x, drawn)[None]])


@final
class ClampedText(TokenField):
    """A field of texts with given tokens, which noise never replaces.

    If noise may draw any token, the field cannot know that these tokens are not draws of noise. So it relies on them
    too little, the less the larger the time is, and blanks are not drawn exactly from their conditional distribution.

    Args:
        text: (position,), the tokens; numbers from `tokens` on are blanks.
    """

    text: Tensor

    def __init__(self, inner: TokenField, text: Tensor) -> None:
        super().__init__()
        self.inner, self.tokens, self.schedule = inner, inner.tokens, inner.schedule
        self.register_buffer("text", text, persistent=False)

    def denoise(self, t: Time, x: Tensor, *given: Tensor) -> Tensor:
        return self.inner.denoise(t, x, *given)

    def begin(self, uniform: Tensor) -> Tensor:
        return self.inner.begin(uniform)

    def rates(self, t: Time, x: Tensor, *given: Tensor) -> Tensor:
        return torch.where(self._stands()[:, None], 0.0, self.inner.rates(t, x, *given))

    def reverse_transition(self, t: Tensor, u: Tensor, x: Tensor, denoised: Tensor) -> Tensor:
        distribution = self.inner.reverse_transition(t, u, x, denoised)
        return torch.where(self._stands()[:, None], one_hot(x, distribution.shape[-1]).to(distribution), distribution)

    def _stands(self) -> Tensor:
        return self.text < self.tokens


def _time(t: float, noise: Noise) -> Times:
    return torch.full((), t, dtype=torch.float64, device=noise.samples.device)
