"""Butcher tableaus, and the explicit steps that they make."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor

from ode_runner.solvers.dense_output import DenseOutput
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
        """Rows of the stages that only a step with outputs within takes, besides its end: `inner`, then the middle."""
        return (*self.inner, self.middle) if self.inner and self.middle else ()

    @cached_property
    def dense(self) -> DenseOutput:
        """The dense output of its steps."""
        return DenseOutput(b=self.b, stages=self.stages, middle=self.middle, places=self.places)

    def within(self, x: float) -> list[float]:
        """Weights of the dense output y(t0 + x dt) = y0 + dt * weights @ (k, f1, slopes at the places)."""
        return self.dense.weights(x)


@dataclass(frozen=True, kw_only=True)
class EmbeddedTableau(Tableau):
    """A tableau with a second, lower-order solution to judge the first by."""

    b_error: tuple[float, ...]  # weights of the difference of the two solutions


Point = TypeVar("Point", float, Tensor)  # in time: a number, one for each row of a state, or an input of compiled code


def stage_time(t0: Point, t1: Point, c: float, *, dt: Point | None = None) -> Point:
    """t0 + c * (t1 - t0), and t1 itself where `c` is 1 but for rounding: a stage lies beyond its step by no rounding.

    `dt` is t1 - t0 where that has been taken before both were rounded.
    """
    return t1 if abs(c - 1) < 1e-9 else t0 + c * (t1 - t0 if dt is None else dt)


def time_tensor(t: float | Tensor, y: State) -> Time:
    """A time as the field takes it: in the type of the state, and where the state is. One that is a tensor is so."""
    return t if isinstance(t, Tensor) else torch.full((), t, dtype=y.dtype, device=y.device)


def advance(y0: State, dt: float | Tensor, weights: Iterable[float], ks: Iterable[Tensor]) -> State:
    """y0 + dt * weights @ ks; zero weights cost nothing, and autograd has no tensor to keep where dt is a number."""
    y = y0
    if isinstance(dt, Tensor):
        for weight, k in zip(weights, ks, strict=True):
            y = y + (dt * weight) * k if weight else y
        return y
    for weight, k in zip(weights, ks, strict=True):
        if weight:
            y = torch.add(y, k, alpha=dt * weight)
    return y


def explicit_step(
    tableau: Tableau, slope: Callable[[float, State], State], dt: float | Tensor, y0: State, f0: State, *, rows: int
) -> tuple[State, list[Tensor]]:
    """y(t0 + dt) and the first `rows` derivatives of an explicit step, the first of which, f0 = f(t0, y0), is known.

    The one place where explicit stages are taken: eagerly by a number `dt`, compiled by a tensor () that is an input,
    and, where every sample has a step of its own, by `dt` = 1 along slopes that are multiplied with it.

    Args:
        slope: the derivative of y, by the fraction of the step at which it is and y itself.
    """
    ks = [f0]
    for c, row in zip(tableau.c[1:rows], tableau.a[1:rows], strict=True):
        ks.append(slope(c, advance(y0, dt, row, ks)))
    return advance(y0, dt, tableau.b[:rows], ks), ks
