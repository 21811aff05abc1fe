"""Dense output: states within a step, interpolated from the step's states and slopes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import mul
from typing import Any, TypeVar

import torch
from torch import Tensor

from ode_runner.types import State

Fraction = TypeVar("Fraction", float, Tensor)  # of a step; tensors and floats are rounded alike


@dataclass(frozen=True, kw_only=True)
class DenseOutput:
    """The dense output of a tableau: y(t0 + x dt) = y0 + dt * weights(x) @ (k, f1, slopes at the extra stages)."""

    b: tuple[float, ...]
    stages: int  # evaluations per step
    middle: tuple[float, ...] | None  # weights of the solution at t0 + dt/2; None: cubic Hermite interpolation
    extra_stages: tuple[tuple[float, ...], ...]  # rows of extra stages, evaluated only in steps with outputs inside

    def weights(self, x: float) -> list[float]:
        """The weights at a fraction `x` of the step.

        With extra stages, the polynomial interpolates the states at both ends and the middle, and the slopes at both
        ends and at the extra stages. Without them it is the quartic through the same states and end slopes; without a
        middle, the cubic Hermite polynomial.
        """
        if self.extra_stages:
            weights = self.hermite_birkhoff.weights(x)
            return [sum(map(mul, weights, data)) for data in self._data]
        return [x * (c1 + x * (c2 + x * (c3 + x * c4))) for c1, c2, c3, c4 in self.quartic]

    def curve(
        self,
        dt: float,
        *,
        ends: tuple[State, State],
        slopes: tuple[State, State],
        middle: State | None,
        inner: Sequence[State] = (),
    ) -> "Quartic | HermiteBirkhoffCurve":
        """The dense output from states and slopes, without the stages; `inner` are the slopes at the extra stages."""
        if middle is None or not inner:
            return Quartic.through(dt, ends=ends, slopes=slopes, middle=middle)
        return HermiteBirkhoffCurve.through(
            self.hermite_birkhoff, dt, ends=ends, slopes=[*slopes, *inner], middle=middle
        )

    @cached_property
    def hermite_birkhoff(self) -> "HermiteBirkhoff":
        """The Hermite-Birkhoff polynomial of this dense output, if it has extra stages."""
        return HermiteBirkhoff(nodes=tuple(map(sum, self.extra_stages)))

    @cached_property
    def quartic(self) -> list[tuple[float, float, float, float]]:
        """For each stage and f1, its weights in the coefficients of x to x**4."""
        known = [0.0] * (self.stages + 1 - len(self.b))
        slopes = list(zip([1, *[0] * self.stages], [*[0] * self.stages, 1], strict=True))  # of f0 and f1 themselves
        ends = [*self.b, *known]
        cubic = [b / 2 + (f0 - f1) / 8 for b, (f0, f1) in zip(ends, slopes, strict=True)]
        middle = cubic if self.middle is None else [*self.middle, *known]
        return [
            (f0, f1 - 4 * f0 - 5 * b + 16 * m, 5 * f0 - 3 * f1 + 14 * b - 32 * m, 2 * (f1 - f0) - 8 * b + 16 * m)
            for b, m, (f0, f1) in zip(ends, middle, slopes, strict=True)
        ]

    @cached_property
    def _data(self) -> list[tuple[float, ...]]:
        """For each stage, f1 and each place, its weights in the data of the Hermite-Birkhoff polynomial."""
        count = self.stages + 1 + len(self.extra_stages)
        states = [[*row, *[0.0] * (count - len(row))] for row in (self.b, self.extra_stages[-1])]
        slopes = [[float(i == j) for j in range(count)] for i in (0, *range(self.stages, count))]
        return list(zip(*states, *slopes, strict=True))


@dataclass(frozen=True, kw_only=True)
class HermiteBirkhoff:
    """The polynomial with the states at x = 0, 1/2 and 1, and the slopes at 0, 1 and the `nodes`.

    It is evaluated as y(x) = y0 + weights(x) @ data, where data are y1 - y0, y(1/2) - y0, and dt times the slopes.
    Coefficients of powers of x would be hundreds of times as large, and so would their rounding errors.

    Enright, Jackson, Norsett, Thomsen. Interpolants for Runge-Kutta formulas. ACM Trans. Math. Softw. 12, 1986.
    """

    nodes: tuple[float, ...]  # within the step

    def weights(self, x: Fraction) -> list[Fraction]:
        """The weight of each datum at a fraction `x` of the step, or at each of several."""
        return [_horner(coefficients, 2 * x - 1) for coefficients in self._coefficients]

    @cached_property
    def _coefficients(self) -> list[list[float]]:
        """For each datum, the coefficients of its weight in powers of u = 2 x - 1, which runs from -1 to 1."""
        powers = torch.arange(5 + len(self.nodes), dtype=torch.float64)
        states = torch.tensor([-1.0, 1.0, 0.0], dtype=torch.float64)[:, None]
        slopes = 2 * torch.tensor([0.0, 1.0, *self.nodes], dtype=torch.float64)[:, None] - 1
        conditions = [states**powers, 2 * powers * slopes ** (powers - 1).clamp_min(0)]
        inverse = torch.linalg.inv(torch.cat(conditions))
        return inverse.T[1:].tolist()  # without y0: the weights of states sum to one


@dataclass(frozen=True, kw_only=True, slots=True)
class Quartic:
    """A quartic polynomial in the fraction x of a step; coefficients from the lowest power on."""

    coefficients: tuple[Tensor, ...]

    @staticmethod
    def through(
        dt: float, *, ends: tuple[State, State], slopes: tuple[State, State], middle: State | None
    ) -> "Quartic":
        """The quartic with these states and slopes at both ends and this middle; without a middle, the cubic."""
        (y0, y1), (f0, f1) = ends, slopes
        if middle is None:
            middle = (y0 + y1) / 2 + dt / 8 * (f0 - f1)
        a = 2 * dt * (f1 - f0) - 8 * (y1 + y0) + 16 * middle
        b = dt * (5 * f0 - 3 * f1) + 18 * y0 + 14 * y1 - 32 * middle
        c = dt * (f1 - 4 * f0) - 11 * y0 - 5 * y1 + 16 * middle
        return Quartic(coefficients=(y0, dt * f0, c, b, a))

    @property
    def dtype(self) -> torch.dtype:
        return self.coefficients[0].dtype

    def __call__(self, x: float) -> State:
        return _horner(self.coefficients, x)

    def of_rows(self, rows: Tensor, x: Tensor) -> State:
        """The states of `rows`, each at a fraction `x`, float64 (rows,) on the CPU, of its step."""
        coefficients = [coefficient[rows] for coefficient in self.coefficients]
        return _horner(coefficients, x.to(coefficients[0]).view(-1, *[1] * (coefficients[0].dim() - 1)))


@dataclass(frozen=True, kw_only=True, slots=True)
class HermiteBirkhoffCurve:
    """States within a step by a HermiteBirkhoff polynomial and its data."""

    polynomial: HermiteBirkhoff
    y0: State
    data: tuple[Tensor, ...]

    @staticmethod
    def through(
        polynomial: HermiteBirkhoff, dt: float, *, ends: tuple[State, State], slopes: Sequence[State], middle: State
    ) -> "HermiteBirkhoffCurve":
        """The curve with these states, and these slopes at both ends and at the nodes."""
        y0, y1 = ends
        data = (y1 - y0, middle - y0, *(dt * slope for slope in slopes))
        return HermiteBirkhoffCurve(polynomial=polynomial, y0=y0, data=data)

    @property
    def dtype(self) -> torch.dtype:
        return self.y0.dtype

    def __call__(self, x: float) -> State:
        y = self.y0
        for weight, datum in zip(self.polynomial.weights(x), self.data, strict=True):
            y = torch.add(y, datum, alpha=weight)
        return y

    def of_rows(self, rows: Tensor, x: Tensor) -> State:
        """The states of `rows`, each at a fraction `x`, float64 (rows,) on the CPU, of its step."""
        y, weights = self.y0[rows], torch.stack(self.polynomial.weights(x))
        for weight, datum in zip(weights.to(y).unbind(), self.data, strict=True):
            y = torch.addcmul(y, weight.view(-1, *[1] * (y.dim() - 1)), datum[rows])
        return y


def _horner(coefficients: Sequence[Any], x: Any) -> Any:
    """The value of a polynomial of numbers or tensors; coefficients from the lowest power on."""
    *lower, y = coefficients
    for coefficient in reversed(lower):
        y = coefficient + x * y
    return y
