"""Step size control: the next step size from the error estimates of the last steps."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ode_runner.errors import RefusedInput

# Exponents, in units of 1 / order, of the last error and of those of the accepted steps before it.
FILTERS: dict[str, tuple[float, ...]] = {
    "i": (1.0,),  # as in torchdiffeq, so that evaluation counts are comparable
    "pi": (0.7, -0.4),  # Hairer, Wanner II, IV.2, after Gustafsson 1991
    "pid": (0.49, -0.34, 0.1),  # Kennedy, Carpenter. Additive Runge-Kutta schemes. Appl. Numer. Math. 44, 2003
}
SMALLEST = 1e-4  # smaller errors are remembered as this, so that one lucky step does not dominate the next ones


@dataclass(frozen=True, kw_only=True)
class StepControl:
    """Options of step size control, in units of time; `conf/solver/control/default.yaml` has the defaults.

    Let e_n be the error of an attempted step in units of the tolerance, and e_{n-1} and e_{n-2} those of the accepted
    steps before it (1 before the first). The next step is dt times

        accepted, e_n <= 1:   min(grow, max(safety prod_i e_{n-i}^(-b_i / order), shrink))
        rejected:             max(safety e_n^(-1 / order), shrink),

    clamped to [`min_step`, `max_step`]. The b_i are FILTERS. With `i`, 1 replaces `shrink` after an accepted step. With
    `pi`, `pid` or `hold`, 1 replaces `grow` right after a rejected step. `Controller` implements this for one solve,
    `RowControllers` for each sample, `DeviceController` on a GPU, and control.c in C.

    `i` uses the last error only and never shortens a step after an accepted one. So at the stability limit of a stiff
    problem it oscillates, and every other step is rejected. `pi` and `pid` use the trend of the errors, too. They never
    let a step grow right after a rejected one; `i` does so, as torchdiffeq, unless `hold` is set.

    The defaults here equal those of the yaml; they serve users' own solvers and old runs without these options.

    Soderlind. Automatic control and adaptive time-stepping. Numer. Algorithms 31, 2002.
    """

    control: Literal["i", "pi", "pid"] = "i"
    safety: float = 0.9  # factor of the step that the errors suggest
    shrink: float = 0.2  # lower bound of the ratio of successive steps
    grow: float = 10.0  # upper bound of the ratio of successive steps
    hold: bool = False  # with `i`: the step after a rejected one does not grow
    min_step: float | None = None  # the solve fails if it needs a shorter step; None: limited by rounding only
    max_step: float | None = None  # None: no limit

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
    """Step size control of one solve, by the formula of StepControl."""

    def __init__(self, options: StepControl, *, order: int) -> None:
        self.options, self.order = options, order
        self.filter = FILTERS[options.control]
        self.trend = len(self.filter) > 1
        self.hold = self.trend or options.hold
        self.past = [1.0] * (len(self.filter) - 1)  # errors of accepted steps, the newest first
        self.after_rejection = False
        self.stuck = False  # True: a step of `min_step` was rejected

    def first(self, dt: float) -> float:
        """The first step size `dt`, clamped to the limits."""
        return self._limited(dt)

    def next(self, dt: float, error: float) -> float:
        """The next step to try after a step `dt` with this error, in units of the tolerance; above 1 it is rejected."""
        self.stuck = error > 1 and self.options.min_step is not None and dt <= self.options.min_step
        return self._limited(dt * (self._after_rejected(error) if error > 1 else self._after_accepted(error)))

    def _after_rejected(self, error: float) -> float:
        """The factor after a rejected step, from the last error alone, because the trend of errors was misleading."""
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
    """A Controller on a GPU for a solve in which it is known which attempts are accepted, so that nothing is read back.

    Sizes and errors are float64 tensors (). Powers may differ from the CPU's by rounding.
    """

    def __init__(self, options: StepControl, *, order: int) -> None:
        self.options, self.order = options, order
        self.filter = FILTERS[options.control]
        self.trend = len(self.filter) > 1
        self.hold = self.trend or options.hold
        self.past: list[Tensor] = []  # errors of accepted steps, the newest first; 1 before the first
        self.after_rejection = False

    def first(self, dt: Tensor) -> Tensor:
        """The first step size `dt`, clamped to the limits."""
        return self._limited(dt)

    def next(self, dt: Tensor, error: Tensor, *, accepted: bool) -> Tensor:
        """The next step to try after a step `dt` with this error, in units of the tolerance."""
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
    """A Controller for each row of a batch, bitwise equal to it; all values are float64 (rows,) on the CPU."""

    def __init__(self, options: StepControl, *, order: int, rows: int) -> None:
        self.options, self.order = options, order
        self.filter = FILTERS[options.control]
        self.trend = len(self.filter) > 1
        self.hold = self.trend or options.hold
        self.past = [torch.ones(rows, dtype=torch.float64) for _ in self.filter[1:]]
        self.after_rejection = torch.zeros(rows, dtype=torch.bool)
        self.stuck: Tensor | None = None  # rows whose step of `min_step` was rejected; None: no such limit

    def first(self, dt: Tensor) -> Tensor:
        """The first step sizes `dt`, clamped to the limits."""
        return self._limited(dt)

    def next(self, dt: Tensor, error: Tensor) -> Tensor:
        """The next steps to try after steps `dt` with these errors, in units of the tolerance."""
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
        """The controllers of some rows, in their order, as a copy."""
        some = RowControllers(self.options, order=self.order, rows=0)
        some.past, some.after_rejection = [past[rows] for past in self.past], self.after_rejection[rows]
        some.stuck = None if self.stuck is None else self.stuck[rows]
        return some

    def put(self, rows: Tensor, some: "RowControllers") -> None:
        """Set the state of some rows to that of the controllers `some`."""
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
    """x ** exponent, infinite at 0; element by element, because torch rounds the last few of a vector differently."""
    return torch.tensor([one**exponent if one else math.inf for one in x.tolist()], dtype=torch.float64)
