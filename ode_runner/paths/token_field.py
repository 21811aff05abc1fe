"""Continuous-time Markov chains from noise to text (discrete diffusion), defined by a denoiser, p(x_0 | x_t)."""

import abc
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import one_hot, pad

from ode_runner.fields.structured_field import JumpField
from ode_runner.noise.hashed_numbers import draw_categorical
from ode_runner.paths.corruption import CorruptionSchedule
from ode_runner.types import Time

NONE_LEFT = 1e-6  # lower bound of the shares of tokens, replaced or not, by which ratios are divided


class TokenField(JumpField):
    """The reverse chain from noise, at t = 1, to text, at t = 0, defined by its denoiser.

    A state `x` is int64 (batch, position): tokens from 0 to `tokens` - 1, and above them further symbols of the noise,
    such as a mask. In the forward process, from text to noise, tokens are replaced independently of each other;
    `schedule` gives the probability that one has been replaced by time t.
    """

    call_weights: ClassVar[Mapping[str, float]] = {"denoise": 1, "rates": 1}
    backwards = True
    tokens: int  # size of the vocabulary
    schedule: CorruptionSchedule

    @abc.abstractmethod
    def denoise(self, t: Time, x: Tensor, *given: Tensor) -> Tensor:
        """p(x_0 = v | x_t = x) of every position, (batch, position, tokens)."""

    def begin(self, uniform: Tensor) -> Tensor:
        """A state of pure noise, (batch, position), from uniform random numbers of this shape."""
        raise NotImplementedError(f"{type(self).__name__} does not say what noise is: define begin(self, uniform)")

    def corrupt(self, t: Tensor, text: Tensor, whether: Tensor, by: Tensor) -> Tensor:
        """x_t of texts (batch, position) at times (batch,), from two uniform random numbers per token."""
        raise NotImplementedError(f"{type(self).__name__} does not say how text becomes noise: define corrupt")

    def reverse_transition(self, t: Tensor, u: Tensor, x: Tensor, denoised: Tensor) -> Tensor:
        """p(x_u | x_t = x) of each position, (batch, position, state), float64, for u < t.

        `denoised` is denoise(t, x).
        """
        raise NotImplementedError(f"{type(self).__name__} has no steps back of its own: define reverse_transition")


class MaskedField(TokenField):
    """A chain in which noise replaces tokens by a mask, whose number is `tokens`.

    The distribution of a masked token does not depend on when the others were masked. So `denoise` does not depend on
    time, and the rates are steady, with the pace of the schedule.

    Austin, Johnson, Ho, Tarlow, van den Berg. Structured Denoising Diffusion Models in Discrete State-Spaces. NeurIPS
    2021. · Sahoo, Arriola, Schiff, Gokaslan, Marroquin, Chiu, Rush, Kuleshov. Simple and Effective Masked Diffusion
    Language Models. NeurIPS 2024.
    """

    call_weights: ClassVar[Mapping[str, float]] = TokenField.call_weights  # declared: a kind of its own
    steady = True

    @property
    def mask(self) -> int:
        """The number of the mask."""
        return self.tokens

    def pace(self, t: Tensor) -> Tensor:
        return self.schedule.pace(t)

    def elapsed(self, t0: Tensor, t1: Tensor) -> Tensor:
        return (self.schedule.corrupted(t0) / self.schedule.corrupted(t1)).log()

    def settled(self, x: Tensor) -> Tensor:
        return (x != self.mask).all(dim=1)

    def begin(self, uniform: Tensor) -> Tensor:
        return torch.full_like(uniform, self.mask, dtype=torch.int64)

    def corrupt(self, t: Tensor, text: Tensor, whether: Tensor, by: Tensor) -> Tensor:
        return torch.where(whether < self.schedule.corrupted(t)[:, None], self.mask, text)

    def rates(self, t: Time, x: Tensor, *given: Tensor) -> Tensor:
        return self.pace(t) * self._unmasked(x, self.denoise(t, x, *given).double())

    def reverse_transition(self, t: Tensor, u: Tensor, x: Tensor, denoised: Tensor) -> Tensor:
        back = self.schedule.recovered(t, u)
        stays = torch.where((x == self.mask)[..., None], 1 - back, 1.0) * one_hot(x, self.tokens + 1)
        return stays + back * self._unmasked(x, denoised.double())

    def _unmasked(self, x: Tensor, denoised: Tensor) -> Tensor:
        """Probabilities of the states that follow a mask, (batch, position, state); 0 at positions without a mask."""
        of_masks = denoised * (x == self.mask)[..., None]
        return torch.cat([of_masks, torch.zeros_like(of_masks[..., :1])], dim=-1)


class LogitsField(TokenField):
    """A token field whose denoiser is computed from logits, by a softmax or otherwise."""

    call_weights: ClassVar[Mapping[str, float]] = {**TokenField.call_weights, "logits": 1}

    @abc.abstractmethod
    def logits(self, t: Time, x: Tensor, *given: Tensor) -> Tensor:
        """Logits of the original token of each position, (batch, position, tokens)."""


class ReplacementField(LogitsField):
    """A chain in which noise replaces tokens by draws from one distribution, `noise`.

    `noise` (state,) are the probabilities of the tokens and of the symbols above them, such as a mask. A token that
    noise never draws cannot have been replaced. The rates are those of discrete flow matching, not of the time reversal
    of the forward process; both have the same marginal distributions.

    Austin, Johnson, Ho, Tarlow, van den Berg. Structured Denoising Diffusion Models in Discrete State-Spaces. NeurIPS
    2021. · Gat, Remez, Shaul, Kreuk, Chen, Synnaeve, Adi, Lipman. Discrete Flow Matching. NeurIPS 2024, for the rates.
    """

    noise: Tensor

    def __init__(self, noise: Tensor, *, tokens: int, schedule: CorruptionSchedule) -> None:
        super().__init__()
        self.register_buffer("noise", noise.double(), persistent=False)
        self.tokens, self.schedule = tokens, schedule

    def denoise(self, t: Time, x: Tensor, *given: Tensor) -> Tensor:
        guessed = self.logits(t, x, *given).double().softmax(dim=-1)
        return torch.where(self.certain(x)[..., None], self._states(x)[..., : self.tokens], guessed)

    def certain(self, x: Tensor) -> Tensor:
        """Whether noise never draws the token at a position, bool (batch, position)."""
        return self.noise[x] == 0

    def begin(self, uniform: Tensor) -> Tensor:
        return draw_categorical(self.noise.expand(*uniform.shape, -1), uniform)

    def corrupt(self, t: Tensor, text: Tensor, whether: Tensor, by: Tensor) -> Tensor:
        return torch.where(whether < self.schedule.corrupted(t)[:, None], self.begin(by), text)

    def rates(self, t: Time, x: Tensor, *given: Tensor) -> Tensor:
        return self.schedule.pace(t) * self._padded(self.denoise(t, x, *given).double())

    def reverse_transition(self, t: Tensor, u: Tensor, x: Tensor, denoised: Tensor) -> Tensor:
        """Sum over k of denoised(k) q(x_u | x_t = x, x_0 = k), by Bayes' rule; times are () or (batch,)."""
        corrupted, before = (self.schedule.corrupted(time.double()).view(-1, 1, 1) for time in (t, u))
        stays = (1 - corrupted) / (1 - before)  # from u to t
        here, at = self.noise[x][..., None], self._states(x)
        likelihood = stays * at + (1 - stays) * here  # of x_t, for each x_u
        evidence = (1 - corrupted) * at + corrupted * here  # of x_t, for each x_0
        weights = self._padded(denoised.double())
        weights = weights / torch.where(weights > 0, evidence, 1.0)  # no division 0 / 0, which would make gradients NaN
        return likelihood * ((1 - before) * weights + before * self.noise * weights.sum(dim=-1, keepdim=True))

    def _states(self, x: Tensor) -> Tensor:
        return one_hot(x, len(self.noise)).double()

    def _padded(self, of_tokens: Tensor) -> Tensor:
        """(batch, position, state): 0 for the symbols that are not tokens."""
        return pad(of_tokens, (0, len(self.noise) - self.tokens))


class RatioField(ReplacementField):
    """A replacement field whose rates are those of the time reversal, by ratios of probabilities (the concrete score).

    The ratio of a state y at a position is p_t(x with y at the position) / p_t(x). `logits` parametrise the difference
    of log ratios from those of uniformly distributed texts: directly for masks, and times a(t) for any other noise,
    because all ratios are 1 in pure noise. A token that noise never draws does not jump; its ratios are not read.

    Lou, Meng, Ermon. Discrete Diffusion Modeling by Estimating the Ratios of the Data Distribution. ICML 2024. · Meng,
    Choi, Song, Ermon. Concrete Score Matching. NeurIPS 2022.
    """

    def log_ratios(self, t: Time, x: Tensor, logits: Tensor) -> Tensor:
        """Log ratios (batch, position, state), 0 at the present state, from `logits` (batch, position, tokens)."""
        kept, gone = self.shares(t)
        masked = len(self.noise) > self.tokens
        logarithm = logits.double() + (kept / gone / self.tokens).log() if masked else kept * logits.double()
        return torch.where(self._states(x) > 0, 0.0, self._padded(logarithm))

    def ratios_of(self, t: Time, x: Tensor, denoised: Tensor) -> Tensor:
        """The ratios that follow from p(x_0 | x_t), (batch, position, tokens): the inverse of `denoise`."""
        kept, gone = self.shares(t)
        weights = self._padded(denoised / torch.where(denoised > 0, self.likelihood(t, x), 1.0))
        return kept * weights + gone * self.noise * weights.sum(dim=-1, keepdim=True)

    def likelihood(self, t: Time, x: Tensor) -> Tensor:
        """q(x_t = x | x_0 = v) of every position and token, (batch, position, tokens)."""
        kept, gone = self.shares(t)
        return (kept * self._states(x) + gone * self.noise[x][..., None])[..., : self.tokens]

    def shares(self, t: Time) -> tuple[Tensor, Tensor]:
        """The probabilities a and 1 - a that a token is kept or replaced, clamped above 0: (1 or batch, 1, 1)."""
        gone = self.schedule.corrupted(t.double()).view(-1, 1, 1).clamp(NONE_LEFT, 1 - NONE_LEFT)
        return 1 - gone, gone

    def replacement(self, t: Time, x: Tensor) -> Tensor:
        """The forward rate from another state to the present one, (batch, position, 1)."""
        kept, _ = self.shares(t)
        return self.schedule.corrupted_dot(t.double()).view(-1, 1, 1) / kept * self.noise[x][..., None]

    def rates(self, t: Time, x: Tensor, *given: Tensor) -> Tensor:
        return self.replacement(t, x) * self.log_ratios(t, x, self.logits(t, x, *given)).exp()

    def denoise(self, t: Time, x: Tensor, *given: Tensor) -> Tensor:
        """p(x_0 | x_t) by Tweedie's formula; negative values, from ratios of no distribution, are set to 0."""
        kept, gone = self.shares(t)
        ratios = self.log_ratios(t, x, self.logits(t, x, *given)).exp()
        clean = (ratios - gone * self.noise * ratios.sum(dim=-1, keepdim=True)) / kept
        weights = (clean[..., : self.tokens] * self.likelihood(t, x)).clamp(min=0)
        weights = torch.where(self.certain(x)[..., None], self._states(x)[..., : self.tokens], weights)
        return weights / weights.sum(dim=-1, keepdim=True)


class KnownTokenField(MaskedField):
    """The true field of a distribution of texts for which sums over all texts can be computed.

    Everything follows from one polynomial L, `likelihood`: p(x_0 = v | x_t) at a position is e_v dL/de_v / L. The
    evidence e is 1 for all tokens at a masked position; elsewhere it is 1 for the present token and 0 for the others.
    """

    length: int

    @abc.abstractmethod
    def likelihood(self, evidence: Tensor) -> Tensor:
        """Sum over texts of p(text) times the evidence for each of its tokens, (batch,).

        `evidence` is (batch, position, tokens), float64: the likelihood of each token at each position.
        """

    def denoise(self, t: Time, x: Tensor, *given: Tensor) -> Tensor:
        """Where no text has the present tokens, all tokens of a mask are equally likely."""
        return self.posterior(self.evidence(x))

    def posterior(self, evidence: Tensor) -> Tensor:
        """p(x_0 = v | evidence) at every position, (batch, position, tokens), by the derivative of `likelihood`."""
        with torch.enable_grad():
            leaf = evidence.requires_grad_()
            [slope] = torch.autograd.grad(self.likelihood(leaf).sum(), leaf)
        weights = evidence.detach() * slope
        total, even = weights.sum(dim=-1, keepdim=True), evidence.detach()
        return torch.where(total > 0, weights / total, even / even.sum(dim=-1, keepdim=True))

    def log_density(self, x: Tensor) -> Tensor:
        """log p of texts without masks (batch, position), nats, float64; minus infinity if p = 0."""
        return self.likelihood(self.evidence(x)).log()

    def evidence(self, x: Tensor) -> Tensor:
        """1 for every possible token of a position, else 0: (batch, position, tokens), float64."""
        known = torch.eye(self.tokens + 1, self.tokens, dtype=torch.float64, device=x.device)
        known[self.mask] = 1
        return known[x]
