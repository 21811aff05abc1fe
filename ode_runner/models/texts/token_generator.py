"""What takes noise to text, token by token."""

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

BEGIN, FINISH = 2.0, -1.0  # times of no solve, to which numbers belong by which texts begin, and by which they end


@final
@dataclass(frozen=True, kw_only=True)
class TokenGenerator(TextGenerator):
    """The field of a text, from noise at `start` to the text at `end`.

    A text is known by its number, as any other sample is. At the end of a solve to t = 0 no position stays masked: what
    the solver has left is drawn, for one evaluation more.

    Tokens that are given stand from the beginning. Where noise is a mask, that is a state on the way to text, and the
    blanks are drawn by their law given these tokens. Under any other noise it is an approximation: see `ClampedText`.
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
    """Another field, of texts that have given tokens at all times, which noise never takes from them.

    Where noise may draw any token, the field cannot know that these are none of its draws, and so relies on them too
    little, the less the later the time: the blanks are not drawn by their very law.

    Args:
        text: (position,), the tokens; from `tokens` on, none is given.
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

    def reverse_law(self, t: Tensor, u: Tensor, x: Tensor, denoised: Tensor) -> Tensor:
        law = self.inner.reverse_law(t, u, x, denoised)
        return torch.where(self._stands()[:, None], one_hot(x, law.shape[-1]).to(law), law)

    def _stands(self) -> Tensor:
        return self.text < self.tokens


def _time(t: float, noise: Noise) -> Times:
    return torch.full((), t, dtype=torch.float64, device=noise.samples.device)
