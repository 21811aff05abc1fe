"""Sampling of tokens, the least certain of which are masked again."""

from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import Tensor

from ode_runner.noise.hashed_numbers import draw_categorical
from ode_runner.solvers.markov_chains.token_sampler import TextState, TokenSampler, highest, mask_of, still_masked


@final
@dataclass(frozen=True, kw_only=True)
class MaskPredict(TokenSampler):
    """Every mask is lifted in each step, and then as many tokens are masked again as the schedule says.

    Those are the least probable, each by what it was when it was drawn; what was given is never masked. This seeks
    modes, as `confidence` does. Of no order. Tokens are drawn here, and not the most probable ones taken.

    Ghazvininejad, Levy, Liu, Zettlemoyer. Mask-Predict: Parallel Decoding of Conditional Masked Language Models. EMNLP
    2019.
    """

    order: int = field(default=0, init=False)

    def step(self, field: Any, x0: Tensor, now: TextState, times: tuple[float, float, float]) -> TextState:
        mask, (begun, t, u) = mask_of(field), times
        masked = now.x == mask
        if not masked.any():
            return now
        denoised = self.denoised(field, t, now.x)
        drawn = draw_categorical(denoised, self.uniform(field, t, 0, now.x))
        text = torch.where(masked, drawn, now.x)
        certainty = torch.where(masked, denoised.gather(2, drawn[..., None])[..., 0], now.certainty)
        again = highest(-certainty, still_masked(field, x0, begun, u))
        return TextState(torch.where(again, mask, text), certainty)
