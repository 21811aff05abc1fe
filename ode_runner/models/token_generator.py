"""What takes noise to text."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from ode_runner.hashed_numbers import draw_categorical
from ode_runner.models.generator import Generator
from ode_runner.noise import Noise
from ode_runner.problem import Integrate
from ode_runner.token_field import TokenField
from ode_runner.types import Times

BEGIN, FINISH = 2.0, -1.0  # times of no solve, to which numbers belong by which texts begin, and by which they end


@final
@dataclass(frozen=True, kw_only=True)
class TokenGenerator(Generator):
    """The field of a text, from noise at `start` to the text at `end`.

    A text is known by its number, as any other sample is. At the end of a solve to t = 0 no position stays masked: what
    the solver has left is drawn, for one evaluation more.
    """

    field: TokenField

    def begin(self, noise: Noise, *, dtype: torch.dtype) -> Tensor:
        del dtype
        return self.field.begin(noise.uniform(_time(BEGIN, noise), 0, self.shape))

    def finished(self, path: Tensor, noise: Noise, integrate: Integrate, given: Sequence[Tensor]) -> Tensor:
        x = path[-1]
        if self.end > 0 or bool((x < self.field.tokens).all()):
            return path
        denoised = integrate.evaluate(self.field, _time(self.end, noise), x, given=given, call="denoise").double()
        drawn = draw_categorical(denoised, noise.uniform(_time(FINISH, noise), 0, self.shape))
        return torch.cat([path[:-1], torch.where(x < self.field.tokens, x, drawn)[None]])


def _time(t: float, noise: Noise) -> Times:
    return torch.full((), t, dtype=torch.float64, device=noise.samples.device)
