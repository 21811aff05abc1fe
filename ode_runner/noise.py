"""Brownian paths as functions of a seed, the number of a sample, an element of its noise, and the time."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from ode_runner.hashed_numbers import hashed, hashed_number, normals, signed, uniform
from ode_runner.transfer import send

AT_ONCE = 1 << 16  # normal numbers that are made in one go: an operation is worth its call, and a cache holds them
COPY = 1 << 40  # between the numbers of a sample and of its copy
Steps = Sequence[tuple[float, float]]  # where each of them begins and ends


class NoiseKind(StrEnum):
    """How a diffusion acts on the state: what decides which solvers there are, and of what order."""

    DIAGONAL = "diagonal"  # g_i(t, y_i) dW_i: a Brownian motion for every element, times a function of that element
    ADDITIVE = "additive"  # g_i(t) dW_i: the same, and the state plays no part
    SCALAR = "scalar"  # g_i(t, y) dW: one Brownian motion for all elements of a sample
    GENERAL = "general"  # sum over k of g_ik(t, y) dW_k


class Calculus(StrEnum):
    """How the integral over dW is meant, and with it what the drift is."""

    ITO = "Ito"
    STRATONOVICH = "Stratonovich"


class Increment(NamedTuple):
    """What the path does from t0 to t1: (batch, *shape) each."""

    w: Tensor  # W(t1) - W(t0), of variance |t1 - t0|
    h: Tensor  # space-time Levy area: the mean of W above its chord, of variance |t1 - t0| / 12, independent of w


@dataclass(frozen=True, kw_only=True)
class BrownianPath:
    """Standard Brownian motions, one for each sample and element, that can be asked for any increment in any order.

    Time is cut into cells of length 1 / `cells`, whose increments are independent; a cell is halved `depth` times, and
    each midpoint is drawn given the increment and the area of its interval. Times are rounded to the finest grid, of
    spacing 1 / (cells 2 ** depth). Adaptive solvers should end their steps on it (`nearest`), because the distribution
    is exact only there. A step of a whole cell costs one draw. Halving the steps gives the same path.

    Every normal number is a hash of (seed, sample, element, cell, node), so nothing is kept, and neither the size of a
    batch, nor the order of the questions, nor torch's generators matter. On one device an increment is the same to the
    bit; on another, logarithm and cosine may round otherwise.

    Levy. Processus stochastiques et mouvement brownien. 1948, I.2. · Foster. Numerical approximations for stochastic
    differential equations. Thesis, Oxford 2020, 6.1, for midpoints given the area. · Steele, Lea, Flood. Fast
    Splittable Pseudorandom Number Generators. OOPSLA 2014, for the hash.
    """

    seed: int
    cells: int  # a unit of time
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
            samples: (batch,), whole numbers from 0, one for each sample, such as its place in its split.
            shape: of the noise of one sample.
        """
        elements = torch.arange(math.prod(shape), device=samples.device)
        each = hashed(samples.to(torch.int64) + signed(hashed_number(self.seed)))
        return hashed(each[:, None] + elements).view(len(samples), *shape)

    def increment(self, t0: float, t1: float, keys: Tensor, *, dtype: torch.dtype) -> Increment:
        """From t0 to t1, forwards or backwards, of the paths of these keys (batch, *shape)."""
        w, h = self.increments([(t0, t1)], keys, dtype=dtype)
        return Increment(w[0], h[0])

    def increments(self, steps: Steps, keys: Tensor, *, dtype: torch.dtype) -> Increment:
        """Those of several steps, (step, batch, *shape) each: bitwise the same as one by one."""
        plan = _plan(replace(self, seed=0), tuple((self._place(t0), self._place(t1)) for t0, t1 in steps))
        w, h = keys.new_zeros(2, len(steps), *keys.shape, dtype=torch.float64).unbind()
        several = max(1, AT_ONCE // max(1, w.numel()))  # draws at once; added up one by one, so that none rounds anew
        nodes, weights = send(plan.nodes, keys.device), send(plan.weights, keys.device)
        for some, (of_w, of_h) in zip(nodes.split(several), map(_pairs, weights.split(several)), strict=True):
            z, n = normals(hashed(keys + _columns(some, keys)))
            for total, (of_z, of_n) in ((w, of_w), (h, of_h)):
                for part in (_columns(of_z, keys) * z).add_(_columns(of_n, keys) * n).unbind():
                    total.add_(part)
        return Increment(w.to(dtype), h.to(dtype))

    def _place(self, t: float) -> int:
        return round(t * (self.cells << self.depth))

    def _between(self, begin: int, end: int) -> "Iterator[_Draw]":
        """The normal numbers of which an increment is made, with their weights, one cell after the other."""
        whole, unit = 1 << self.depth, 1 / (self.cells << self.depth)
        for cell in range(begin // whole, max(-(-end // whole), begin // whole + 1)):
            t0, t1 = max(begin - cell * whole, 0), min(end - cell * whole, whole)
            after = (end - cell * whole - t1) * unit  # from the end of this piece to that of the whole
            up_to, before = _weights(t1, self.depth, 1 / self.cells), _weights(t0, self.depth, 1 / self.cells)
            for node in dict.fromkeys([*up_to, *before]):
                (w1, a1), (w0, a0) = up_to.get(node, _NOTHING), before.get(node, _NOTHING)
                w = _combined(w1, 1.0, w0, -1.0)
                area = _combined(_combined(a1, 1.0, a0, -1.0), 1.0, w0, -(t1 - t0) * unit)
                yield _Draw(cell, node, w, _combined(area, 1.0, w, after))


@dataclass(frozen=True, kw_only=True)
class Noise:
    """A Brownian path for every sample of a batch, known by the sample's number (batch,)."""

    path: BrownianPath
    samples: Tensor

    def increment(self, t0: float, t1: float, shape: Sequence[int], *, dtype: torch.dtype) -> Increment:
        """From t0 to t1, (batch, *shape) each."""
        return self.path.increment(t0, t1, self.path.keys(self.samples, shape), dtype=dtype)

    def increments(self, steps: Steps, shape: Sequence[int], *, dtype: torch.dtype) -> Increment:
        """Of several steps, (step, batch, *shape) each, by as many at once as a few megabytes hold."""
        keys = self.path.keys(self.samples, shape)
        several = max(1, AT_ONCE // max(1, keys.numel()))
        parts = [self.path.increments(steps[i : i + several], keys, dtype=dtype) for i in range(0, len(steps), several)]
        return Increment(*map(torch.cat, zip(*parts, strict=True)))

    def uniform(self, t: Tensor, which: int, shape: Sequence[int]) -> Tensor:
        """Numbers between 0 and 1 that belong to a time, () or one for each sample: (batch, *shape), float64.

        There are as many kinds of them as there are numbers `which`, all independent, and of other times as well.
        """
        times = hashed(
            t.double().expand(len(self.samples)).contiguous().view(torch.int64) + signed(hashed_number(which))
        )
        keys = self.path.keys(self.samples, shape)
        return uniform(hashed(keys + times.view(-1, *[1] * len(shape))))

    def copies(self, count: int) -> "Noise":
        """The noise of a batch repeated `count` times, each copy with its own paths; the first has those of `self`."""
        shifts = COPY * torch.arange(count, device=self.samples.device)
        return replace(self, samples=(shifts[:, None] + self.samples).flatten())


class StepIncrements:
    """The increments of the steps of a solve, made for as many of them at once as a few megabytes hold."""

    def __init__(self, noise: Noise, steps: Steps, shape: Sequence[int], *, dtype: torch.dtype) -> None:
        self.path, self.keys, self.dtype = noise.path, noise.path.keys(noise.samples, shape), dtype
        self.steps, self.places = steps, {step: i for i, step in enumerate(steps)}
        self.several = max(1, AT_ONCE // max(1, self.keys.numel()))
        self.first, self.made = 0, list[Increment]()

    def find(self, t0: float, t1: float) -> Increment:
        """Of a step in either direction; one that is none of these is made by itself."""
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


Pair = tuple[float, float]  # the weights of the two normal numbers of a node
_NOTHING: tuple[Pair, Pair] = ((0.0, 0.0), (0.0, 0.0))


class _Draw(NamedTuple):
    """Two normal numbers, and their weights in W and in the integral of W over the interval."""

    cell: int
    node: int  # 0: the whole cell; else a number of the heap of midpoints
    w: Pair
    area: Pair


class _Plan(NamedTuple):
    """Of several steps, the normal numbers that each is made of, and their weights; 0 for those it does not need."""

    nodes: Tensor  # (draw, step), int64
    weights: Tensor  # (draw, 2, 2, step): in W and in H, of both normal numbers


@lru_cache(maxsize=256)  # training asks for the same grid again and again
def _plan(path: BrownianPath, places: tuple[tuple[int, int], ...]) -> _Plan:
    each = [_of_step(path, begin, end) for begin, end in places]
    most = max(map(len, each), default=0)
    nodes, weights = torch.zeros(most, len(each), dtype=torch.int64), torch.zeros(most, 2, 2, len(each)).double()
    for i, draws in enumerate(each):
        if draws:
            nodes[: len(draws), i] = torch.tensor([node for node, _ in draws])
            weights[: len(draws), :, :, i] = torch.tensor([pairs for _, pairs in draws], dtype=torch.float64)
    return _Plan(nodes, weights)


def _of_step(path: BrownianPath, begin: int, end: int) -> list[tuple[int, tuple[Pair, Pair]]]:
    """By hashed node, the weights of its normal numbers in W(end) - W(begin) and in the mean above its chord."""
    span = abs(end - begin) / (path.cells << path.depth)
    draws, sign = path._between(min(begin, end), max(begin, end)), 1 if end >= begin else -1
    return [
        (
            signed(hashed_number(hashed_number(draw.cell) + draw.node)),
            (_combined(draw.w, sign, _NOTHING[0], 0.0), _combined(draw.area, 1 / span, draw.w, -0.5)),
        )
        for draw in draws
        if span
    ]


def _pairs(weights: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Those in W and those in H, of the first and the second normal number: (draw, step) each."""
    return [(pair[:, 0], pair[:, 1]) for pair in weights.unbind(dim=1)]


def _columns(x: Tensor, keys: Tensor) -> Tensor:
    """(draw, step) shaped so that it broadcasts against (draw, step, *keys)."""
    return x.reshape(*x.shape, *[1] * keys.dim())


@lru_cache(maxsize=64)  # a step begins where the last one ended
def _weights(place: int, depth: int, length: float) -> dict[int, tuple[Pair, Pair]]:
    """By node, the weights of its normal numbers in W and its integral, from the beginning of a cell to a place in it.

    Goes down from the cell to the place. An interval of length h has W = sqrt(h) z and H = sqrt(h / 12) n; its first
    half has W / 2 + 3 H / 2 + Z and area H / 4 - Z / 2 + N / 2, its second half the rest and H / 4 - Z / 2 - N / 2,
    where Z = sqrt(h) z / 4 and N = sqrt(h / 12) n.
    """
    if place == 0:
        return {}
    w = {0: (math.sqrt(length), 0.0)}
    h = {0: (0.0, math.sqrt(length / 12))}
    passed_w: dict[int, Pair] = {}
    passed_area: dict[int, Pair] = {}
    node, size, span = 1, 1 << depth, length
    while place < size:  # into a half
        size, half = size // 2, span / 2
        z, n = {node: (math.sqrt(span) / 4, 0.0)}, {node: (0.0, math.sqrt(span / 12))}
        first_w = _sum((w, 0.5), (h, 1.5), (z, 1.0))
        right = place > size
        if right:
            first_h = _sum((h, 0.25), (z, -0.5), (n, 0.5))
            passed_area = _sum((passed_area, 1.0), (passed_w, half), (first_w, half / 2), (first_h, half))
            passed_w = _sum((passed_w, 1.0), (first_w, 1.0))
            place -= size
        w = _sum((w, 1.0), (first_w, -1.0)) if right else first_w
        h = _sum((h, 0.25), (z, -0.5), (n, -0.5 if right else 0.5))
        node, span = 2 * node + right, half
    area = _sum((passed_area, 1.0), (passed_w, span), (w, span / 2), (h, span))
    whole = _sum((passed_w, 1.0), (w, 1.0))
    return {key: (whole.get(key, (0.0, 0.0)), area.get(key, (0.0, 0.0))) for key in area}


def _sum(*terms: tuple[dict[int, Pair], float]) -> dict[int, Pair]:
    """A linear combination."""
    total: dict[int, Pair] = {}
    for weights, factor in terms:
        for key, pair in weights.items():
            total[key] = _combined(total.get(key, (0.0, 0.0)), 1.0, pair, factor)
    return total


def _combined(a: Pair, alpha: float, b: Pair, beta: float) -> Pair:
    return alpha * a[0] + beta * b[0], alpha * a[1] + beta * b[1]
