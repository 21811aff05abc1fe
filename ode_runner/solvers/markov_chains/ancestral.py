"""Ancestral sampling of tokens."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from ode_runner.fields.counted_field import uncounted
from ode_runner.noise.hashed_numbers import draw_categorical
from ode_runner.paths.token_field import TokenField
from ode_runner.solvers.markov_chains.token_sampler import TextState, TokenSampler


@final
@dataclass(frozen=True, kw_only=True)
class Ancestral(TokenSampler):
    """Each token is drawn from its distribution at the next time, given the denoised tokens; some masks are lifted.

    The tokens of one step are drawn independently of each other, which is the only error: weak order 1.

    Austin, Johnson, Ho, Tarlow, van den Berg. Structured Denoising Diffusion Models in Discrete State-Spaces. NeurIPS
    2021, section 3. · Sahoo et al. Simple and Effective Masked Diffusion Language Models. NeurIPS 2024.
    """

    fields: ClassVar[type] = TokenField
    fields_in_words: ClassVar[str] = "a text that turns to noise token by token"
    order: int = field(default=1, init=False)  # weak order

    def step(self, field: Any, x0: Tensor, now: TextState, times: tuple[float, float, float]) -> TextState:
        chain, (_, t, u) = uncounted(field), times
        assert isinstance(chain, TokenField)
        before, after = torch.tensor([t, u], dtype=torch.float64, device=now.x.device)
        distribution = chain.reverse_transition(before, after, now.x, self.denoised(field, t, now.x))
        return now._replace(x=draw_categorical(distribution, self.uniform(field, t, 0, now.x)))
