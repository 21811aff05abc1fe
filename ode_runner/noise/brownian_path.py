"""Brownian paths as functions of seed, sample number, element of the noise, and time."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

import torch
from torch import Tensor

from ode_runner.devices.transfer import send_once
from ode_runner.noise.hashed_numbers import hashed, hashed_number, normals, signed, uniform
from ode_runner.noise.levy_construction import Draws, pairs, plan_draws

AT_ONCE = 1 << 16  # normal numbers drawn at once: enough to amortise the calls, and they still fit a cache
COPY = 1 << 40  # the offset from a sample's number to that of its copy
Steps = Sequence[tuple[float, float]]  # beginning and end of each step


class NoiseKind(StrEnum):
    """How the diffusion depends on state and noise; it decides which solvers apply, and their order."""

    DIAGONAL = "diagonal"  # g_i(t, y_i) dW_i: a Brownian motion for every element, times a function of that element
    ADDITIVE = "additive"  # g_i(t) dW_i: the same, and the state plays no part
    SCALAR = "scalar"  # g_i(t, y) dW: one Brownian motion for all elements of a sample
    GENERAL = "general"  # sum over k of g_ik(t, y) dW_k


class Calculus(StrEnum):
    """The interpretation of the integral over dW. The drift of an equation depends on it."""

    ITO = "Ito"
    STRATONOVICH = "Stratonovich"


class Increment(NamedTuple):
    """The increment of a Brownian path from t0 to t1 and its Levy area: (batch, *shape) each."""

    w: Tensor  # W(t1) - W(t0), of variance |t1 - t0|
    h: Tensor  # space-time Levy area: the mean of W above its chord, of variance |t1 - t0| / 12, independent of w


@dataclass(frozen=True, kw_only=True)
class BrownianPath:
    """Standard Brownian motions, one per sample and element, whose increments can be computed in any order.

    Time is divided into cells of length 1 / `cells`, whose increments are independent. A cell is halved `depth` times,
    and each midpoint is drawn conditionally on the increment and the area of its interval. Times are rounded to the
    finest grid, of spacing 1 / (cells 2 ** depth). Adaptive solvers should end their steps on this grid (`nearest`),
    because the distribution is exact only there. A step of a whole cell costs one draw. Halving the steps gives the
    same path.

    Every normal number is a hash of (seed, sample, element, cell, node). So nothing is stored, and increments depend
    neither on the batch size, nor on the order of calls, nor on torch's generators. On one device they are bitwise
    reproducible; another device may round logarithm and cosine differently.

    Levy. Processus stochastiques et mouvement brownien. 1948, I.2. · Foster. Numerical approximations for stochastic
    differential equations. Thesis, Oxford 2020, 6.1, for midpoints given the area. · Steele, Lea, Flood. Fast
    Splittable Pseudorandom Number Generators. OOPSLA 2014, for the hash.
    """

    seed: int
    cells: int  # per unit of time
    depth: int

    def __post_init__(self) -> None:
        if self.cells < 1 or not 0 <= self.depth <= 40:
            raise ValueError(f"cells={self.cells} must be at least 1, and depth={self.depth} from 0 to 40.")

    def nearest(self, t: float) -> float:
        """The time of the finest grid that is closest to `t`."""
        return self._place(t) / (self.cells << self.depth)

    def keys(self, samples: Tensor, shape: Sequence[int]) -> Tensor:
        """The hash keys of the paths of some samples, (batch, *shape), for `increment`.

        Args:
            samples: (batch,), integers from 0, one per sample, such as its index in its split.
            shape: the shape of one sample's noise.
        """
        elements = torch.arange(math.prod(shape), device=samples.device)
        each = hashed(samples.to(torch.int64) + signed(hashed_number(self.seed)))
        return hashed(each[:, None] + elements).view(len(samples), *shape)

    def increment(self, t0: float, t1: float, keys: Tensor, *, dtype: torch.dtype) -> Increment:
        """The increment from t0 to t1, forwards or backwards, of the paths with these keys (batch, *shape)."""
        w, h = self.increments([(t0, t1)], keys, dtype=dtype)
        return Increment(w[0], h[0])

    def increments(self, steps: Steps, keys: Tensor, *, dtype: torch.dtype) -> Increment:
        """The increments of several steps, (step, batch, *shape) each; bitwise equal to single calls of `increment`."""
        places = tuple((self._place(t0), self._place(t1)) for t0, t1 in steps)
        w, h = keys.new_zeros(2, len(steps), *keys.shape, dtype=torch.float64).unbind()
        several = max(1, AT_ONCE // max(1, w.numel()))  # draws at once; added one by one, so that rounding is the same
        plan = plan_draws(places, cells=self.cells, depth=self.depth, several=several)
        for draws in plan.draws:
            z, n = _numbers(draws, keys)
            weights = send_once(draws.weights, keys.device)
            having = weights.shape[-1]  # the number of steps with draws in this group
            for total, (of_z, of_n) in zip((w[:having], h[:having]), pairs(weights), strict=True):
                for part in (_columns(of_z, keys) * z).add_(_columns(of_n, keys) * n).unbind():
                    total.add_(part)
        order = slice(None) if plan.order is None else send_once(plan.order, keys.device)
        return Increment(w[order].to(dtype), h[order].to(dtype))

    def _place(self, t: float) -> int:
        return round(t * (self.cells << self.depth))


@dataclass(frozen=True, kw_only=True)
class Noise:
    """A Brownian path for every sample of a batch; `samples` (batch,) are the numbers of the samples."""

    path: BrownianPath
    samples: Tensor

    def increment(self, t0: float, t1: float, shape: Sequence[int], *, dtype: torch.dtype) -> Increment:
        """The increment from t0 to t1, (batch, *shape) each."""
        return self.path.increment(t0, t1, self.path.keys(self.samples, shape), dtype=dtype)

    def increments(self, steps: Steps, shape: Sequence[int], *, dtype: torch.dtype) -> Increment:
        """The increments of several steps, (step, batch, *shape) each, in groups of a few megabytes."""
        keys = self.path.keys(self.samples, shape)
        several = max(1, AT_ONCE // max(1, keys.numel()))
        parts = [self.path.increments(steps[i : i + several], keys, dtype=dtype) for i in range(0, len(steps), several)]
        return Increment(*map(torch.cat, zip(*parts, strict=True)))

    def uniform(self, t: Tensor, which: int, shape: Sequence[int]) -> Tensor:
        """Uniform random numbers in (0, 1] for a time, () or one per sample: (batch, *shape), float64.

        Numbers for different `which` or different times are independent.
        """
        times = hashed(
            t.double().expand(len(self.samples)).contiguous().view(torch.int64) + signed(hashed_number(which))
        )
        keys = self.path.keys(self.samples, shape)
        return uniform(hashed(keys + times.view(-1, *[1] * len(shape))))

    def copies(self, count: int) -> "Noise":
        """The noise of a batch repeated `count` times; each copy has its own paths, the first one those of `self`."""
        shifts = COPY * torch.arange(count, device=self.samples.device)
        return replace(self, samples=(shifts[:, None] + self.samples).flatten())


class StepIncrements:
    """The increments of the steps of a solve, drawn for groups of steps of a few megabytes."""

    def __init__(self, noise: Noise, steps: Steps, shape: Sequence[int], *, dtype: torch.dtype) -> None:
        self.path, self.keys, self.dtype = noise.path, noise.path.keys(noise.samples, shape), dtype
        self.steps, self.places = steps, {step: i for i, step in enumerate(steps)}
        self.several = max(1, AT_ONCE // max(1, self.keys.numel()))
        self.first, self.made = 0, list[Increment]()

    def find(self, t0: float, t1: float) -> Increment:
        """The increment of a step in either direction; a step that was not announced is drawn separately."""
        place = self.places.get((t0, t1))
        if place is not None:
            return self._made(place)
        place = self.places.get((t1, t0))
        if place is None:
            return self.path.increment(t0, t1, self.keys, dtype=self.dtype)
        w, h = self._made(place)
        return Increment(-w, h)

    def _made(self, place: int) -> Increment:
        if not self.first <= place < self.first + len(self.made):
            self.first = place - place % self.several
            steps = self.steps[self.first : self.first + self.several]
            ws, hs = self.path.increments(steps, self.keys, dtype=self.dtype)
            self.made = [Increment(w, h) for w, h in zip(ws.unbind(), hs.unbind(), strict=True)]
        return self.made[place - self.first]


def _numbers(draws: Draws, keys: Tensor) -> tuple[Tensor, Tensor]:
    """The two normal numbers of each draw of each step, (draw, step, *keys)."""
    z, n = normals(hashed(keys + _columns(send_once(draws.nodes, keys.device), keys)))
    if draws.places is None:
        return z, n
    places = send_once(draws.places, keys.device)
    return z[places], n[places]


def _columns(x: Tensor, keys: Tensor) -> Tensor:
    """`x` shaped so that it broadcasts against (*x.shape, *keys.shape)."""
    return x.reshape(*x.shape, *[1] * keys.dim())
