"""Butcher tableaus, and explicit Runge-Kutta steps by them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor

from ode_runner.errors import RefusedInput
from ode_runner.solvers.dense_output import DenseOutput
from ode_runner.types import State, Time

ROUNDED = 1e-6  # largest distance of a sum of weights from the right one: coefficients may be printed decimals


@dataclass(frozen=True, kw_only=True)
class Tableau:
    """Stage i is evaluated at c[i] = sum(a[i]) from y0 + dt * a[i] @ k[:i]; the step is y0 + dt * b @ k."""

    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    middle: tuple[float, ...] | None = None  # weights of the solution at t0 + dt/2; None: cubic Hermite interpolation
    inner: tuple[tuple[float, ...], ...] = ()  # extra stages for dense output: weights of k, f1 and the slopes so far

    def __post_init__(self) -> None:
        stages = len(self.a)
        for number, row in enumerate(self.a):
            if not number <= len(row) <= stages:
                least = f"{number} (one for each earlier stage) to {stages} (one for each)"
                raise RefusedInput(f"row {number} (from 0) of a tableau's a has length {len(row)}, not {least}.")
        _check_weights("b", self.b, count=stages, total=1, why="those of a method to 1")
        if self.middle is not None:
            count = self.stages + 1 + len(self.inner) if self.inner else stages
            _check_weights("middle", self.middle, count=count, total=1 / 2, why="those of the middle to 0.5")

    def check_rows(self, *, own: bool) -> None:
        """Raises RefusedInput unless each row of `a` has a coefficient for each earlier stage, and `own` for its own.

        Steps take slopes and coefficients in pairs, so that zeros for later stages would be in the way.
        """
        for number, row in enumerate(self.a):
            if len(row) != number + own:
                kind, and_own = ("a diagonally implicit", " and one for its own") if own else ("an explicit", "")
                raise RefusedInput(
                    f"row {number} (from 0) of the tableau's a has length {len(row)}, and that of {kind} method "
                    f"{number + own}: one coefficient for each earlier stage{and_own}, without zeros after them."
                )

    @cached_property
    def c(self) -> tuple[float, ...]:
        return tuple(sum(row) for row in self.a)

    @cached_property
    def first_same_as_last(self) -> bool:
        """Whether the last stage is f(t1, y1), the first stage of the next step (FSAL)."""
        return self.a[-1] == self.b[:-1] and self.b[-1] == 0

    @cached_property
    def stages(self) -> int:
        """The number of stages that y1 depends on: the number of rows, less one if the last is f(t1, y1)."""
        return len(self.b) - self.first_same_as_last

    @cached_property
    def extra_stages(self) -> tuple[tuple[float, ...], ...]:
        """Rows of the extra stages of steps with outputs inside, besides f(t1, y1): `inner`, then the middle."""
        return (*self.inner, self.middle) if self.inner and self.middle else ()

    @cached_property
    def dense(self) -> DenseOutput:
        """The dense output of its steps."""
        return DenseOutput(b=self.b, stages=self.stages, middle=self.middle, extra_stages=self.extra_stages)

    def within(self, x: float) -> list[float]:
        """Weights of the dense output y(t0 + x dt) = y0 + dt * weights @ (k, f1, slopes at the extra stages)."""
        return self.dense.weights(x)


@dataclass(frozen=True, kw_only=True)
class EmbeddedTableau(Tableau):
    """A tableau with a second solution of lower order, for error estimates."""

    b_error: tuple[float, ...]  # weights of the difference of the two solutions

    def __post_init__(self) -> None:
        super().__post_init__()
        why = "those of the difference of two methods to 0: give b less the weights of the second method"
        _check_weights("b_error", self.b_error, count=len(self.b), total=0, why=why)
        if not any(self.b_error):
            raise RefusedInput("the weights b_error of a tableau are all 0, so that no error would be estimated.")


def _check_weights(name: str, weights: tuple[float, ...], *, count: int, total: float, why: str) -> None:
    if len(weights) != count:
        raise RefusedInput(f"the weights {name} of a tableau have length {len(weights)}, and its slopes are {count}.")
    if not abs(sum(weights) - total) <= ROUNDED:
        raise RefusedInput(f"the weights {name} of a tableau sum to {sum(weights):.6g}, and {why}.")


Point = TypeVar("Point", float, Tensor)  # a time: a number, one per row of a state, or an input of compiled code


def stage_time(t0: Point, t1: Point, c: float, *, dt: Point | None = None) -> Point:
    """t0 + c * (t1 - t0), or t1 itself if `c` is 1 up to rounding, so that no stage lies beyond its step.

    `dt`: t1 - t0, if it was computed before both were rounded.
    """
    return t1 if abs(c - 1) < 1e-9 else t0 + c * (t1 - t0 if dt is None else dt)


def time_tensor(t: float | Tensor, y: State) -> Time:
    """A time as a tensor () in the dtype and on the device of the state; a tensor is returned as it is."""
    return t if isinstance(t, Tensor) else torch.full((), t, dtype=y.dtype, device=y.device)


def advance(y0: State, dt: float | Tensor, weights: Iterable[float], ks: Iterable[Tensor]) -> State:
    """y0 + dt * weights @ ks. Zero weights cost nothing. If dt is a number, autograd stores no tensors."""
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
    """y(t0 + dt) and the first `rows` derivatives of an explicit step, the first of which is the given f0 = f(t0, y0).

    All explicit stages are computed here. `dt` is a number in eager code and a tensor (), an input, in compiled code.
    If every sample has its own step, `dt` is 1 and slopes are multiplied by the steps.

    Args:
        slope: maps the fraction of the step, c, and the state y to the derivative.
    """
    ks = [f0]
    for c, row in zip(tableau.c[1:rows], tableau.a[1:rows], strict=True):
        ks.append(slope(c, advance(y0, dt, row, ks)))
    return advance(y0, dt, tableau.b[:rows], ks), ks
