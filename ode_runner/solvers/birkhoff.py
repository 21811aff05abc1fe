"""Dense output of high order: a polynomial through three states of a step and slopes at more places than these."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor

from ode_runner.types import State

Fraction = TypeVar("Fraction", float, Tensor)  # of a step; a tensor's elements are rounded as one alone would be


@dataclass(frozen=True, kw_only=True)
class Birkhoff:
    """The polynomial with the states at x = 0, 1/2 and 1, and the slopes at 0, 1 and the `nodes`.

    It is known by its weights y(x) = y0 + weights @ data, where data are y1 - y0, y(1/2) - y0, and the slopes times the
    step. Coefficients of powers of x would be hundreds of times as large, which costs that many times their rounding.

    Enright, Jackson, Norsett, Thomsen. Interpolants for Runge-Kutta formulas. ACM Trans. Math. Softw. 12, 1986.
    """

    nodes: tuple[float, ...]  # within the step

    def weights(self, x: Fraction) -> list[Fraction]:
        """Of each datum at a fraction `x` of the step, or at each of several."""
        return [_horner(coefficients, 2 * x - 1) for coefficients in self._coefficients]

    @cached_property
    def _coefficients(self) -> list[list[float]]:
        """For each datum, those of the powers of u = 2 x - 1, which runs from -1 to 1."""
        powers = torch.arange(5 + len(self.nodes), dtype=torch.float64)
        states = torch.tensor([-1.0, 1.0, 0.0], dtype=torch.float64)[:, None]
        slopes = 2 * torch.tensor([0.0, 1.0, *self.nodes], dtype=torch.float64)[:, None] - 1
        conditions = [states**powers, 2 * powers * slopes ** (powers - 1).clamp_min(0)]
        inverse = torch.linalg.inv(torch.cat(conditions))
        return inverse.T[1:].tolist()  # the states' weights sum to one, so that y0's is the rest


def _horner(coefficients: list[float], x: Fraction) -> Fraction:
    y = 0 * x
    for coefficient in reversed(coefficients):
        y = coefficient + x * y
    return y


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """Dense output between t0 and t1 by its data."""

    t0: float
    t1: float | Tensor  # a tensor where each row of the states has a step of its own
    birkhoff: Birkhoff
    y0: State
    data: tuple[Tensor, ...]

    @staticmethod
    def through(
        birkhoff: Birkhoff,
        t0: float,
        t1: float | Tensor,
        *,
        ends: tuple[State, State],
        slopes: Sequence[State],
        middle: State,
    ) -> "Curve":
        """With these states, and slopes at both ends and the nodes."""
        y0, y1 = ends
        data = (y1 - y0, middle - y0, *((t1 - t0) * slope for slope in slopes))
        return Curve(t0=t0, t1=t1, birkhoff=birkhoff, y0=y0, data=data)

    def __call__(self, t: float) -> State:
        y, weights = self.y0, self.birkhoff.weights((t - self.t0) / float(self.t1 - self.t0))
        for weight, datum in zip(weights, self.data, strict=True):
            y = torch.add(y, datum, alpha=weight)
        return y

    def of_rows(self, rows: Tensor, x: Tensor) -> State:
        """The states of `rows`, each at a fraction `x`, float64 (rows,) on the CPU, of its step."""
        y, weights = self.y0[rows], torch.stack(self.birkhoff.weights(x))
        for weight, datum in zip(weights.to(y).unbind(), self.data, strict=True):
            y = torch.addcmul(y, weight.view(-1, *[1] * (y.dim() - 1)), datum[rows])
        return y
