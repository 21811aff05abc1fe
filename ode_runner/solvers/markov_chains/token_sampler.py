"""Base classes of samplers of text, which turn noise into text in steps of many tokens."""

import abc
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from ode_runner.devices.transfer import read_times
from ode_runner.fields.counted_field import uncounted
from ode_runner.noise.hashed_numbers import draw_categorical
from ode_runner.paths.token_field import MaskedField, TokenField
from ode_runner.problem import Solution
from ode_runner.solvers.markov_chains.jumps import JumpSolver
from ode_runner.types import Times

ROUNDING = 1e-6  # of times, and of counts of tokens


class TextState(NamedTuple):
    """A partly masked text."""

    x: Tensor  # (batch, position)
    certainty: Tensor  # (batch, position): probability of each token when it was drawn; infinite if given


@dataclass(frozen=True, kw_only=True)
class TokenSampler(JumpSolver):
    """A sampler of text with one evaluation of the denoiser per step.

    The text is constant between two steps, so that output times in between take no steps.
    """

    kind: ClassVar[str] = "a sampler of tokens"
    fields: ClassVar[type] = MaskedField
    fields_in_words: ClassVar[str] = "a text of which tokens are masked"
    example: ClassVar[str] = "task=markov_text"

    def follow(self, field: Any, x0: Tensor, ts: Times) -> Solution:
        grid, times = self.grid(ts), read_times(ts)
        now = TextState(x0, torch.full(x0.shape, torch.inf, dtype=torch.float64, device=x0.device))
        states = [x0]
        for t0, t1 in pairwise(grid):
            now = self.step(field, x0, now, (grid[0], t0, t1))
            states.append(now.x)
        places = [sum(abs(t - grid[0]) <= abs(time - grid[0]) + ROUNDING for t in grid) - 1 for time in times]
        return Solution(ys=torch.stack([states[place] for place in places]), accepted=len(grid) - 1)

    @abc.abstractmethod
    def step(self, field: Any, x0: Tensor, now: TextState, times: tuple[float, float, float]) -> TextState:
        """The text after one step. `times`: the first time of the solve, with text `x0`; the present; the next."""

    @staticmethod
    def denoised(field: Any, t: float, x: Tensor) -> Tensor:
        """The denoiser's probabilities, (batch, position, tokens), float64; one evaluation."""
        found: Tensor = field.denoise(torch.full((), t, dtype=torch.float64, device=x.device), x)
        return found.double()

    @staticmethod
    def uniform(field: Any, t: float, which: int, x: Tensor) -> Tensor:
        """Uniform random numbers for the time, in the shape of `x`."""
        found: Tensor = field.driving_noise.uniform(
            torch.full((), t, dtype=torch.float64, device=x.device), which, x.shape[1:]
        )
        return found


@dataclass(frozen=True, kw_only=True)
class OrderedSampler(TokenSampler):
    """Each step draws, at once, as many masked tokens as the schedule says, those with the highest score.

    A step without tokens to draw takes no evaluation.
    """

    def step(self, field: Any, x0: Tensor, now: TextState, times: tuple[float, float, float]) -> TextState:
        masked, (begun, t, u) = now.x == mask_of(field), times
        due = masked.sum(dim=1) - still_masked(field, x0, begun, u)
        if not (due > 0).any():
            return now
        denoised = self.denoised(field, t, now.x)
        drawn = draw_categorical(denoised, self.uniform(field, t, 0, now.x))
        certainty = denoised.gather(2, drawn[..., None])[..., 0]
        score = self.score(denoised, certainty, self.uniform(field, t, 1, now.x))
        shown = highest(score.masked_fill(~masked, -torch.inf), due)
        return TextState(torch.where(shown, drawn, now.x), torch.where(shown, certainty, now.certainty))

    @abc.abstractmethod
    def score(self, denoised: Tensor, certainty: Tensor, uniform: Tensor) -> Tensor:
        """The score of each position, (batch, position): masks with higher scores are lifted first.

        `certainty` is the probability of the token that was drawn for each position.
        """


def mask_of(field: Any) -> int:
    """The number of the mask."""
    own = uncounted(field)
    assert isinstance(own, MaskedField)
    return own.mask


def still_masked(field: Any, x0: Tensor, begun: float, u: float) -> Tensor:
    """How many of the initially masked tokens are still masked at time `u`, (batch,), rounded down."""
    own = uncounted(field)
    assert isinstance(own, TokenField)
    first, later = own.schedule.corrupted(torch.tensor([begun, u], dtype=torch.float64)).tolist()
    return ((x0 == mask_of(field)).sum(dim=1) * (later / first) + ROUNDING).long()


def highest(score: Tensor, count: Tensor) -> Tensor:
    """Whether an element is among the `count` (batch,) highest of its row, (batch, position); ties go to the first."""
    order = score.argsort(dim=1, descending=True, stable=True)
    return order.argsort(dim=1) < count[:, None]
