"""Butcher tableaus, and sums of stages that keep nothing for the backward pass."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from operator import mul

import torch
from torch import Tensor

from ode_runner.solvers.birkhoff import Birkhoff
from ode_runner.types import State, Time


@dataclass(frozen=True, kw_only=True)
class Tableau:
    """Stage i is evaluated at c[i] = sum(a[i]) from y0 + dt * a[i] @ k[:i]; the step is y0 + dt * b @ k."""

    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    middle: tuple[float, ...] | None = None  # weights of the solution at t0 + dt/2; None: the cubic through both ends
    inner: tuple[tuple[float, ...], ...] = ()  # more places for dense output: weights of k, f1, the slopes so far

    @cached_property
    def c(self) -> tuple[float, ...]:
        return tuple(sum(row) for row in self.a)

    @cached_property
    def first_same_as_last(self) -> bool:
        """The last stage is f(t1, y1), which the next step begins with."""
        return self.a[-1] == self.b[:-1] and self.b[-1] == 0

    @cached_property
    def stages(self) -> int:
        """Evaluations that the step is made of: one less than there are rows where the last is only f(t1, y1)."""
        return len(self.b) - self.first_same_as_last

    @cached_property
    def places(self) -> tuple[tuple[float, ...], ...]:
        """Where a step with outputs within is evaluated besides its end: the inner places, if any, and the middle."""
        return (*self.inner, self.middle) if self.inner and self.middle else ()

    @cached_property
    def birkhoff(self) -> Birkhoff:
        """The dense output of a tableau with inner places."""
        return Birkhoff(nodes=tuple(map(sum, self.places)))

    def within(self, x: float) -> list[float]:
        """Weights of the dense output y(t0 + x dt) = y0 + dt * weights @ (k, f1, slopes at the places).

        The polynomial with the step's states and slopes at both ends and its middle, and the slopes at inner places;
        without these the quartic that leaves out the slope in the middle, and without a middle the cubic.
        """
        if self.places:
            weights = self.birkhoff.weights(x)
            return [sum(map(mul, weights, data)) for data in self._data]
        return [x * (c1 + x * (c2 + x * (c3 + x * c4))) for c1, c2, c3, c4 in self.quartic]

    @cached_property
    def _data(self) -> list[tuple[float, ...]]:
        """For each stage, f1 and each place, its weights in the data that the polynomial goes through."""
        count = self.stages + 1 + len(self.places)
        states = [[*row, *[0.0] * (count - len(row))] for row in (self.b, self.places[-1])]
        slopes = [[float(i == j) for j in range(count)] for i in (0, *range(self.stages, count))]
        return list(zip(*states, *slopes, strict=True))

    @cached_property
    def quartic(self) -> list[tuple[float, float, float, float]]:
        """The weights of the dense output: for each stage and f1, the coefficients of x to x**4."""
        known = [0.0] * (self.stages + 1 - len(self.b))
        slopes = list(zip([1, *[0] * self.stages], [*[0] * self.stages, 1], strict=True))  # of f0 and f1 themselves
        ends = [*self.b, *known]
        cubic = [b / 2 + (f0 - f1) / 8 for b, (f0, f1) in zip(ends, slopes, strict=True)]
        middle = cubic if self.middle is None else [*self.middle, *known]
        return [
            (f0, f1 - 4 * f0 - 5 * b + 16 * m, 5 * f0 - 3 * f1 + 14 * b - 32 * m, 2 * (f1 - f0) - 8 * b + 16 * m)
            for b, m, (f0, f1) in zip(ends, middle, slopes, strict=True)
        ]


@dataclass(frozen=True, kw_only=True)
class EmbeddedTableau(Tableau):
    """A tableau with a second, lower-order solution to judge the first by."""

    b_error: tuple[float, ...]  # weights of the difference of the two solutions


def stage_time(t0: float, t1: float, c: float) -> float:
    """t0 + c * (t1 - t0), and t1 itself where `c` is 1 but for rounding: a stage never lies beyond its step."""
    return t1 if c > 1 - 1e-9 else t0 + c * (t1 - t0)


def at(t: float, y: State) -> Time:
    """A time as the field takes it: in the type of the state, and where the state is."""
    return torch.full((), t, dtype=y.dtype, device=y.device)


def advance(y0: State, dt: float, weights: Iterable[float], ks: Iterable[Tensor]) -> State:
    """y0 + dt * weights @ ks; zero weights cost nothing, and autograd has no tensor to keep."""
    y = y0
    for weight, k in zip(weights, ks, strict=True):
        if weight:
            y = torch.add(y, k, alpha=dt * weight)
    return y
