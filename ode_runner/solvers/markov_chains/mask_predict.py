"""Sampling of all tokens in each step, with the least probable ones masked again (Mask-Predict)."""

from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import Tensor

from ode_runner.noise.hashed_numbers import draw_categorical
from ode_runner.solvers.markov_chains.token_sampler import TextState, TokenSampler, highest, mask_of, still_masked


@final
@dataclass(frozen=True, kw_only=True)
class MaskPredict(TokenSampler):
    """Each step lifts every mask, and then masks as many tokens again as the schedule says.

    These are the tokens with the lowest probability at the time of their draw; given tokens are never masked. This is
    mode-seeking and has no order, as `confidence`. Unlike the paper, it draws tokens and does not take the most
    probable ones.

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
