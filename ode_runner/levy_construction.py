"""Levy's construction of Brownian paths: the normal numbers that make an increment, and the weights of each.

An increment is a sum of standard normal numbers, two for each cell of time and each midpoint within a cell, one for the
path and one for its area. They are known by number; who draws them multiplies and adds.

Levy. Processus stochastiques et mouvement brownien. 1948, I.2. · Foster. Numerical approximations for stochastic
differential equations. Thesis, Oxford 2020, 6.1, for midpoints given the area.
"""

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from ode_runner.hashed_numbers import hashed_number, signed

Pair = tuple[float, float]  # the weights of the two normal numbers of a node
_NOTHING: tuple[Pair, Pair] = ((0.0, 0.0), (0.0, 0.0))


class _Draw(NamedTuple):
    """Two normal numbers, and their weights in W and in the integral of W over the interval."""

    cell: int
    node: int  # 0: the whole cell; else a number of the heap of midpoints
    w: Pair
    area: Pair


class Plan(NamedTuple):
    """The normal numbers that several steps are made of, and their weights; 0 for those a step does not need."""

    nodes: Tensor  # (draw, step), int64
    weights: Tensor  # (draw, 2, 2, step): in W and in H, of both normal numbers


@lru_cache(maxsize=256)  # training asks for the same grid again and again
def plan_draws(places: tuple[tuple[int, int], ...], *, cells: int, depth: int) -> Plan:
    """The draws of the steps that begin and end at these places of the finest grid.

    Time is cut into cells of length 1 / `cells`, and a cell is halved `depth` times.
    """
    each = [_of_step(begin, end, cells=cells, depth=depth) for begin, end in places]
    most = max(map(len, each), default=0)
    nodes, weights = torch.zeros(most, len(each), dtype=torch.int64), torch.zeros(most, 2, 2, len(each)).double()
    for i, draws in enumerate(each):
        if draws:
            nodes[: len(draws), i] = torch.tensor([node for node, _ in draws])
            weights[: len(draws), :, :, i] = torch.tensor([both for _, both in draws], dtype=torch.float64)
    return Plan(nodes, weights)


def _of_step(begin: int, end: int, *, cells: int, depth: int) -> list[tuple[int, tuple[Pair, Pair]]]:
    """By hashed node, the weights of its normal numbers in W(end) - W(begin) and in the mean above its chord."""
    span, sign = abs(end - begin) / (cells << depth), 1 if end >= begin else -1
    draws = _between(min(begin, end), max(begin, end), cells=cells, depth=depth)
    return [
        (
            signed(hashed_number(hashed_number(draw.cell) + draw.node)),
            (_combined(draw.w, sign, _NOTHING[0], 0.0), _combined(draw.area, 1 / span, draw.w, -0.5)),
        )
        for draw in draws
        if span
    ]


def _between(begin: int, end: int, *, cells: int, depth: int) -> Iterator[_Draw]:
    """The normal numbers of which an increment is made, with their weights, one cell after the other."""
    whole, unit = 1 << depth, 1 / (cells << depth)
    for cell in range(begin // whole, max(-(-end // whole), begin // whole + 1)):
        t0, t1 = max(begin - cell * whole, 0), min(end - cell * whole, whole)
        after = (end - cell * whole - t1) * unit  # from the end of this piece to that of the whole
        up_to, before = _weights(t1, depth, 1 / cells), _weights(t0, depth, 1 / cells)
        for node in dict.fromkeys([*up_to, *before]):
            (w1, a1), (w0, a0) = up_to.get(node, _NOTHING), before.get(node, _NOTHING)
            w = _combined(w1, 1.0, w0, -1.0)
            area = _combined(_combined(a1, 1.0, a0, -1.0), 1.0, w0, -(t1 - t0) * unit)
            yield _Draw(cell, node, w, _combined(area, 1.0, w, after))


def pairs(weights: Tensor) -> list[tuple[Tensor, Tensor]]:
    """The weights in W and those in H, as pairs: of the first and the second normal number, (draw, step) each."""
    return [(pair[:, 0], pair[:, 1]) for pair in weights.unbind(dim=1)]


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
