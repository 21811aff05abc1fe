"""Levy's construction of Brownian paths: which normal numbers an increment is the weighted sum of, and their weights.

Each cell of time and each midpoint within a cell has two standard normal numbers, one for the path and one for its
area. This module computes their keys and weights only; `brownian_path` draws and adds them.

Levy. Processus stochastiques et mouvement brownien. 1948, I.2. · Foster. Numerical approximations for stochastic
differential equations. Thesis, Oxford 2020, 6.1, for midpoints given the area.
"""

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ode_runner.noise.hashed_numbers import hashed

Places = NDArray[np.int64]
Weights = NDArray[np.float64]


class Draws(NamedTuple):
    """Normal numbers that are drawn at once, and their weights in the steps that use them."""

    nodes: Tensor  # (node,), int64 keys; (draw, step) if no two steps share one
    places: Tensor | None  # (draw, step), int64: index into `nodes`; None: `nodes` itself is (draw, step)
    weights: Tensor  # (draw, 2, 2, step): weights in W and in H of both normal numbers; 0 if a step has fewer draws


class Plan(NamedTuple):
    """The draws of several steps. Steps are sorted by their number of draws, so that later groups have fewer steps."""

    draws: tuple[Draws, ...]
    order: Tensor | None  # (step,), int64: the position of each step in this order; None: unchanged


class _Paths(NamedTuple):
    """The nodes on the way from a cell down to several places in it, and their weights in W from its beginning."""

    nodes: Places  # (place, level); 0: the whole cell, else an index of the binary heap of midpoints
    known: NDArray[np.bool_]  # (place, level): whether the node exists; the way to a place ends at its last midpoint
    w: Weights  # (place, level, 2): weights of both normal numbers of a node in W
    area: Weights  # the same for the integral of W


@lru_cache(maxsize=256)  # training uses the same grid in every step
def plan_draws(places: tuple[tuple[int, int], ...], *, cells: int, depth: int, several: int) -> Plan:
    """The draws of steps that begin and end at these places of the finest grid, in groups of `several` per step.

    Time is divided into cells of length 1 / `cells`, and a cell is halved `depth` times.
    """
    whole, unit = 1 << depth, 1 / (cells << depth)
    pieces = [piece for step, ends in enumerate(places) for piece in _pieces(step, min(ends), max(ends), whole)]
    step, cell, t0, t1, rest = np.array(pieces, dtype=np.int64).reshape(-1, 5).T
    nodes, known, (w0, w1), (a0, a1) = _beside(*_paths_to_both(t0, t1, depth, 1 / cells))
    w = w1 - w0
    area = a1 - a0 - w0 * ((t1 - t0) * unit)[:, None, None] + w * (rest * unit)[:, None, None]

    begin, end = np.array(places, dtype=np.int64).reshape(-1, 2)[step].T
    sign, span = np.sign(end - begin)[:, None, None], (abs(end - begin) / (cells << depth))[:, None, None]
    weights = np.stack([w * sign, area * (1 / span) - w / 2], axis=2)
    keys = hashed(hashed(torch.from_numpy(cell))[:, None] + torch.from_numpy(nodes)).numpy()
    of_step = step[known.nonzero()[0]]
    counts = np.bincount(of_step, minlength=len(places))
    columns = _one_below_the_other(keys[known], weights[known], of_step, counts)
    most_first = (-counts).argsort(kind="stable")
    draws = [
        _draws(*columns, slice(first, first + several), most_first[: (counts > first).sum()])
        for first in range(0, counts.max(initial=0), several)
    ]
    moved = bool((np.diff(most_first) < 0).any())
    return Plan(tuple(draws), torch.from_numpy(most_first.argsort()) if moved else None)


def _pieces(step: int, begin: int, end: int, whole: int) -> Iterator[tuple[int, int, int, int, int]]:
    """The parts of a step in each cell: step, cell, both ends within the cell, and the distance to the step's end."""
    for cell in range(begin // whole, -(-end // whole) if begin < end else begin // whole):
        t0, t1 = max(begin - cell * whole, 0), min(end - cell * whole, whole)
        yield step, cell, t0, t1, end - cell * whole - t1


def _one_below_the_other(keys: Places, weights: Weights, step: Places, counts: Places) -> tuple[Places, Weights]:
    """Each step's draws as a column, in their order."""
    row = np.arange(len(step)) - (counts.cumsum() - counts)[step]
    nodes = np.zeros((counts.max(initial=0), len(counts)), dtype=np.int64)
    of_nodes = np.zeros((len(nodes), 2, 2, len(counts)))
    nodes[row, step], of_nodes[row, :, :, step] = keys, weights
    return nodes, of_nodes


def _draws(nodes: Places, weights: Weights, rows: slice, steps: Places) -> Draws:
    """Some draws of some steps; a node that several steps share is drawn once."""
    some, of_some = nodes[rows, steps], torch.from_numpy(np.ascontiguousarray(weights[rows][..., steps]))
    distinct, places = np.unique(some, return_inverse=True)
    if distinct.size == some.size:
        return Draws(torch.from_numpy(some), None, of_some)
    return Draws(torch.from_numpy(distinct), torch.from_numpy(places.reshape(some.shape)), of_some)


def pairs(weights: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Two pairs of weights, in W and in H: each of the first and the second normal number, (draw, step)."""
    return [(pair[:, 0], pair[:, 1]) for pair in weights.unbind(dim=1)]


def _paths_to_both(t0: Places, t1: Places, depth: int, length: float) -> tuple[_Paths, _Paths]:
    """The paths to the places t0 and t1; each place is computed once, as a step mostly begins where the last ended."""
    places, where = np.unique(np.stack([t0, t1]), return_inverse=True)
    nodes, known, w, area = _paths(places, depth, length)
    before, up_to = (_Paths(nodes[rows], known[rows], w[rows], area[rows]) for rows in where.reshape(2, -1))
    return before, up_to


def _beside(
    before: _Paths, up_to: _Paths
) -> tuple[Places, NDArray[np.bool_], tuple[Weights, Weights], tuple[Weights, Weights]]:
    """The nodes above both ends of each piece, those of its end first; which exist; their weights in W and area.

    A node above both ends appears once.
    """
    both = up_to.known & before.known & (up_to.nodes == before.nodes)
    first = before.known & ~both
    nodes, known = np.hstack([up_to.nodes, before.nodes]), np.hstack([up_to.known, first])
    w0, a0 = (np.hstack([x * both[..., None], x * first[..., None]]) for x in (before.w, before.area))
    w1, a1 = (np.hstack([x, np.zeros_like(x)]) for x in (up_to.w, up_to.area))
    return nodes, known, (w0, w1), (a0, a1)


def _paths(places: Places, depth: int, length: float) -> _Paths:
    """The paths of nodes from a cell of this length down to places in it.

    A cell of length h has increment W = sqrt(h) z and area H = sqrt(h / 12) n. The first half of an interval has
    increment W / 2 + 3 H / 2 + Z and area H / 4 - Z / 2 + N / 2; the second half has the rest of W and area
    H / 4 - Z / 2 - N / 2. Here Z = sqrt(h) z / 4 and N = sqrt(h / 12) n, with new z and n for each midpoint.
    """
    inside = [place for place in places.tolist() if 0 < place < 1 << depth]
    levels = 1 + max((depth - (place & -place).bit_length() + 1 for place in inside), default=0)
    nodes, known = np.zeros((len(places), levels), dtype=np.int64), np.zeros((len(places), levels), dtype=bool)
    w, h, passed_w, passed_area = np.zeros((4, len(places), levels, 2))
    going, left, size, span = places.nonzero()[0], places.copy(), 1 << depth, length
    known[going, 0], w[going, 0, 0], h[going, 0, 1] = True, math.sqrt(span), math.sqrt(span / 12)
    node, spans = np.ones_like(places), np.full((len(places), 1, 1), span)
    for level in range(1, levels):
        going = going[left[going] < size]  # the other places are reached
        nodes[going, level], known[going, level] = node[going], True
        z, n, size, span = math.sqrt(span) / 4, math.sqrt(span / 12), size // 2, span / 2
        first_w, first_h = w[going] / 2 + 1.5 * h[going], h[going] / 4
        first_w[:, level, 0], first_h[:, level] = z, (-z / 2, n / 2)
        second_w, second_h = w[going] - first_w, first_h.copy()
        second_h[:, level, 1] = -n / 2

        right = left[going] > size
        passed, by_w, by_h = going[right], first_w[right], first_h[right]
        passed_area[passed] = passed_area[passed] + span * passed_w[passed] + span / 2 * by_w + span * by_h
        passed_w[passed] += by_w
        w[going] = np.where(right[:, None, None], second_w, first_w)
        h[going] = np.where(right[:, None, None], second_h, first_h)
        left[passed] -= size
        node[going], spans[going] = 2 * node[going] + right, span
    return _Paths(nodes, known, passed_w + w, passed_area + spans * passed_w + spans / 2 * w + spans * h)
