"""How the next step size follows from the errors of the last ones."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ode_runner.errors import RefusedInput

# Exponents, in units of 1 / order, of the last error and of those of the accepted steps before it.
FILTERS: dict[str, tuple[float, ...]] = {
    "i": (1.0,),  # torchdiffeq's, so that numbers of evaluations can be compared
    "pi": (0.7, -0.4),  # Hairer, Wanner II, IV.2, after Gustafsson 1991
    "pid": (0.49, -0.34, 0.1),  # Kennedy, Carpenter. Additive Runge-Kutta schemes. Appl. Numer. Math. 44, 2003
}
SMALLEST = 1e-4  # an error below this is remembered as this: one lucky step is not to push the next ones


@dataclass(frozen=True, kw_only=True)
class StepControl:
    """Options of step control, in the time unit of the task; `conf/solver/control/default.yaml` holds what is usual.

    Where e_n is the error of an attempted step in units of the tolerance, and e_{n-1} and e_{n-2} are those of the
    accepted steps before it (1 before the first), the next step is dt times

        accepted, e_n <= 1:   min(grow, max(safety prod_i e_{n-i}^(-b_i / order), shrink))
        rejected:             max(safety e_n^(-1 / order), shrink),

    kept within `min_step` and `max_step`. The b_i are FILTERS. With `i`, 1 stands in the place of `shrink` after an
    accepted step; with `pi`, `pid` and `hold`, 1 stands in that of `grow` right after a rejected one. `Controller` has
    this formula for one solve, `RowControllers` for each sample, `DeviceController` on a GPU, and control.c in C.

    `i` looks at the last error alone, never shortens a step after an accepted one, and so swings about the
    stability limit of a stiff problem, every other step rejected there. `pi` and `pid` look at its trend as well. They
    never let a step grow right after a rejected one, which `i` does by torchdiffeq's rule unless `hold` forbids it.

    The defaults are those of the yaml, for solvers of one's own and for runs recorded before there was a choice.

    Soderlind. Automatic control and adaptive time-stepping. Numer. Algorithms 31, 2002.
    """

    control: Literal["i", "pi", "pid"] = "i"
    safety: float = 0.9  # of the step that the errors suggest
    shrink: float = 0.2  # at most to this part of the step before
    grow: float = 10.0  # at most to this many times the step before
    hold: bool = False  # with `i`: a step after a rejected one is no longer than that
    min_step: float | None = None  # a step that would have to be shorter ends the solve; None: rounding does
    max_step: float | None = None  # None: the time span

    def check_sensible_control(self) -> None:
        """Raises RefusedInput for options of step control that make no sense together or alone."""
        for name, low, high in (("safety", 0, 1), ("shrink", 0, 1), ("grow", 1, math.inf)):
            if not low < getattr(self, name) < high:
                limits = f"above {low}" + (f" and below {high}" if high < math.inf else " and finite")
                raise RefusedInput(f"solver.{name} must be {limits}, not {getattr(self, name)}.")
        for name in ("min_step", "max_step"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise RefusedInput(f"solver.{name} must be positive or null, not {value}.")
        if self.min_step is not None and self.max_step is not None and self.min_step > self.max_step:
            raise RefusedInput(
                f"solver.min_step={self.min_step} is longer than solver.max_step={self.max_step}. Swap them."
            )


class Controller:
    """Step control of one solve: chooses each step from the errors of the last ones, by the formula of StepControl."""

    def __init__(self, options: StepControl, *, order: int) -> None:
        self.options, self.order = options, order
        self.filter = FILTERS[options.control]
        self.trend = len(self.filter) > 1
        self.hold = self.trend or options.hold
        self.past = [1.0] * (len(self.filter) - 1)  # errors of accepted steps, the newest first
        self.after_rejection = False
        self.stuck = False  # a step of `min_step` was too long

    def first(self, dt: float) -> float:
        """The size of the first step, chosen elsewhere, within the limits."""
        return self._limited(dt)

    def next(self, dt: float, error: float) -> float:
        """The step to try after one of `dt` with this error in units of the tolerance; above 1 it is rejected."""
        self.stuck = error > 1 and self.options.min_step is not None and dt <= self.options.min_step
        return self._limited(dt * (self._after_rejected(error) if error > 1 else self._after_accepted(error)))

    def _after_rejected(self, error: float) -> float:
        """The next size by the last error alone, since the trend of errors was wrong."""
        self.after_rejection = True
        return max(self.options.safety * error ** (-1 / self.order), self.options.shrink)

    def _after_accepted(self, error: float) -> float:
        errors = [error, *self.past]
        self.past = [max(one, SMALLEST) for one in errors[: len(self.past)]]
        most = 1.0 if self.hold and self.after_rejection else self.options.grow  # Hairer, Norsett, Wanner I, II.4
        self.after_rejection = False
        if error == 0:
            return most
        suggested = math.prod(one ** (-power / self.order) for one, power in zip(errors, self.filter, strict=True))
        return min(most, max(self.options.safety * suggested, self.options.shrink if self.trend else 1.0))

    def _limited(self, dt: float) -> float:
        return max(self.options.min_step or 0.0, min(dt, self.options.max_step or math.inf))


class DeviceController:
    """A Controller on a GPU, where it is known beforehand which attempts are accepted: nothing is read from the device.

    Sizes and errors are float64 tensors without shape. Powers may differ from the CPU's by a rounding.
    """

    def __init__(self, options: StepControl, *, order: int) -> None:
        self.options, self.order = options, order
        self.filter = FILTERS[options.control]
        self.trend = len(self.filter) > 1
        self.hold = self.trend or options.hold
        self.past: list[Tensor] = []  # of the accepted steps, the newest first; those before the first were 1
        self.after_rejection = False

    def first(self, dt: Tensor) -> Tensor:
        """The size of the first step, chosen elsewhere, within the limits."""
        return self._limited(dt)

    def next(self, dt: Tensor, error: Tensor, *, accepted: bool) -> Tensor:
        """The step to try after one of `dt` with this error in units of the tolerance."""
        return self._limited(dt * (self._after_accepted(error) if accepted else self._after_rejected(error)))

    def _after_rejected(self, error: Tensor) -> Tensor:
        self.after_rejection = True
        return (self.options.safety * error ** (-1 / self.order)).clamp_min(self.options.shrink)

    def _after_accepted(self, error: Tensor) -> Tensor:
        suggested = error ** (-self.filter[0] / self.order)
        for past, power in zip(self.past, self.filter[1:], strict=False):
            suggested = suggested * past ** (-power / self.order)
        self.past = [one.clamp_min(SMALLEST) for one in [error, *self.past][: len(self.filter) - 1]]
        most = 1.0 if self.hold and self.after_rejection else self.options.grow
        self.after_rejection = False
        return (self.options.safety * suggested).clamp_min(self.options.shrink if self.trend else 1.0).clamp_max(most)

    def _limited(self, dt: Tensor) -> Tensor:
        longest = dt if self.options.max_step is None else dt.clamp_max(self.options.max_step)
        return longest if self.options.min_step is None else longest.clamp_min(self.options.min_step)


class RowControllers:
    """A Controller for each row of a batch, to the bit: its memory and what it says are float64 (rows,) on the CPU."""

    def __init__(self, options: StepControl, *, order: int, rows: int) -> None:
        self.options, self.order = options, order
        self.filter = FILTERS[options.control]
        self.trend = len(self.filter) > 1
        self.hold = self.trend or options.hold
        self.past = [torch.ones(rows, dtype=torch.float64) for _ in self.filter[1:]]
        self.after_rejection = torch.zeros(rows, dtype=torch.bool)
        self.stuck: Tensor | None = None  # rows whose step of `min_step` was too long; None: there is no such limit

    def first(self, dt: Tensor) -> Tensor:
        """The first steps, which were chosen elsewhere, within the limits."""
        return self._limited(dt)

    def next(self, dt: Tensor, error: Tensor) -> Tensor:
        """The steps to try after those of `dt` with these errors in units of the tolerance."""
        rejected, factor = error > 1, self._after_accepted(error)
        if self.options.min_step is not None:
            self.stuck = rejected & (dt <= self.options.min_step)
        if bool(rejected.any()):
            shorter = (self.options.safety * _power(error, -1 / self.order)).clamp_min(self.options.shrink)
            factor = torch.where(rejected, shorter, factor)
        errors = [error.clamp_min(SMALLEST), *self.past]
        self.past = [torch.where(rejected, old, new) for old, new in zip(self.past, errors, strict=False)]
        self.after_rejection = rejected
        return self._limited(dt * factor)

    def of(self, rows: Tensor) -> "RowControllers":
        """The controllers of some rows, in their order, with a memory of their own."""
        some = RowControllers(self.options, order=self.order, rows=0)
        some.past, some.after_rejection = [past[rows] for past in self.past], self.after_rejection[rows]
        some.stuck = None if self.stuck is None else self.stuck[rows]
        return some

    def put(self, rows: Tensor, some: "RowControllers") -> None:
        """Take over the memory of the controllers of some rows."""
        for mine, theirs in zip(self.past, some.past, strict=True):
            mine[rows] = theirs
        self.after_rejection[rows] = some.after_rejection
        if some.stuck is not None:
            self.stuck = torch.zeros_like(self.after_rejection).index_put((rows,), some.stuck)

    def _after_accepted(self, error: Tensor) -> Tensor:
        suggested = _power(error, -self.filter[0] / self.order)
        for past, power in zip(self.past, self.filter[1:], strict=True):
            suggested = suggested * _power(past, -power / self.order)
        factor = (self.options.safety * suggested).clamp_min(self.options.shrink if self.trend else 1.0)
        longest = factor.clamp_max(self.options.grow)
        return torch.where(self.after_rejection, factor.clamp_max(1.0), longest) if self.hold else longest

    def _limited(self, dt: Tensor) -> Tensor:
        if self.options.max_step is not None:
            dt = dt.clamp_max(self.options.max_step)
        return dt if self.options.min_step is None else dt.clamp_min(self.options.min_step)


def _power(x: Tensor, exponent: float) -> Tensor:
    """x ** exponent, infinite where x is 0, number by number: torch rounds the last few of a vector otherwise."""
    return torch.tensor([one**exponent if one else math.inf for one in x.tolist()], dtype=torch.float64)
