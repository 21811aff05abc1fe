"""The base classes of solvers: any solver, with fixed steps, and with adaptive steps."""

import abc
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import ClassVar, Self

import torch
from torch import Tensor

from ode_runner.devices.transfer import read_times
from ode_runner.errors import IncompatibleChoice, RefusedInput, as_chosen, as_typed
from ode_runner.field import VectorField
from ode_runner.fields.counted_field import name_of
from ode_runner.fields.structured_field import kind_of
from ode_runner.problem import Solution
from ode_runner.types import State, Times

MOST_STEPS = 1_000_000  # per unit of time, on a fixed grid: single precision hardly resolves shorter steps
MOST_IN_ALL = 10_000_000  # from the first time to the last: minutes, even for the smallest field


@dataclass(frozen=True, kw_only=True)
class Solver(abc.ABC):
    """A numerical method for dy/dt = f(t, y), y(ts[0]) = y0."""

    kind: ClassVar[str]  # in words, for messages and tables
    fields: ClassVar[type] = VectorField  # the class that a field must be an instance of
    fields_in_words: ClassVar[str] = "fields of ordinary equations"  # the same in words
    example: ClassVar[str] = "task=pendulum"  # for messages: a choice whose true field is of this class
    differentiable: ClassVar[bool] = True  # False: `solve` leaves no graph; the gradient mode must bring the derivative
    implicit: ClassVar[bool] = False  # True: an implicit method, stable for stiff fields
    order: int = field(init=False)  # global order of convergence: the error at a fixed time is O(dt ** order)

    @abc.abstractmethod
    def solve(self, field: VectorField, y0: State, ts: Times) -> Solution:
        """The solution at `ts`, which may increase or decrease, by differentiable operations only.

        Raises:
            SolverFailed: the solver did not reach the last time.
        """

    @property
    def shown_name(self) -> str:
        """The name in messages: `solver=NAME`, or the class name of a user's own solver."""
        return as_chosen("solver", self)

    @property
    def if_stiff(self) -> str:
        """The end of a message: what to use for stiff problems. Empty unless the method is explicit."""
        explicit = self.of_ordinary_equations and not self.implicit
        return ", or, if the problem is stiff, use solver=kvaerno3, which is implicit" if explicit else ""

    @property
    def draws(self) -> bool:
        """Whether a solve depends on the noise that it is given."""
        return False

    @property
    def finer(self) -> str:
        """For messages: what to change if the error of the steps is too large."""
        return "another solver"

    def unused_options(self) -> Mapping[str, str]:
        """Options without effect, given the values of the others, each with the reason as a clause."""
        return {}

    def unused_options_for(self, field: VectorField | None) -> Mapping[str, str]:
        """Options without effect for this field, each with the reason as a clause."""
        del field
        return {}

    def check_times(self, ts: Times) -> None:
        """Raises RefusedInput if a solve over these times would take far too many steps."""
        del ts

    def check_state(self, y0: State) -> None:
        """Raises RefusedInput if the solver does not take states of this shape."""
        del y0

    @property
    def treats_samples_alone(self) -> bool:
        """Whether samples must not interact: each has its own steps, or only its own Jacobian."""
        return False

    @property
    def of_ordinary_equations(self) -> bool:
        """Whether it solves dy/dt = f(t, y) for any field; samplers and stochastic solvers take special kinds only."""
        return issubclass(VectorField, self.fields)

    def takes_field(self, field: VectorField) -> bool:
        """Whether the field has all the methods that the solver calls."""
        return self.takes_kind(kind_of(field))

    @classmethod
    def takes_kind(cls, kind: type[VectorField]) -> bool:
        """Whether the solver takes every field of a kind."""
        return issubclass(kind, cls.fields) and cls._calls().keys() <= kind.call_weights.keys()

    def check_field(self, field: VectorField) -> None:
        """Raises IncompatibleChoice unless the solver takes the field."""
        if self.takes_field(field):
            return
        kind, calls = kind_of(field), ", ".join(self._calls())
        own = "" if kind is not VectorField else f", or make the field a subclass of {self.fields.__name__}"
        raise IncompatibleChoice(
            f"{self.shown_name} evaluates a field by {calls}, and {name_of(field)} is a {kind.__name__}, which is "
            f"evaluated by {', '.join(kind.call_weights)}. Use {kind.solved_by}{own}."
        )

    @classmethod
    def _calls(cls) -> Mapping[str, float]:
        weights: Mapping[str, float] = cls.fields.call_weights  # type: ignore[attr-defined]
        return weights

    def check_integrals(self) -> None:
        """Raises IncompatibleChoice if the solver has no rule for integrals along a solve, which is the default."""
        raise IncompatibleChoice(
            f"{self.shown_name} is {self.kind}, and has no rule for integrals along a solve. Use a Runge-Kutta, "
            "reversible or splitting solver, such as solver=dopri5."
        )

    @abc.abstractmethod
    def refined(self) -> Self:
        """The same method with steps so much smaller that its error is negligible."""


@dataclass(frozen=True, kw_only=True)
class FixedStepSolver(Solver):
    """A solver with equal steps, known before the solve. Give `num_steps` per unit of time, or `step_size`."""

    kind: ClassVar[str] = "of fixed step"
    num_steps: int | None
    step_size: float | None

    def __post_init__(self) -> None:
        if (self.num_steps is None) == (self.step_size is None):
            raise RefusedInput(
                f"solver.num_steps={as_typed(self.num_steps)} solver.step_size={as_typed(self.step_size)}: a "
                f"fixed-step solver needs exactly one. Type solver.num_steps={self.num_steps or 20}, or "
                f"solver.step_size={self.step_size or 0.05} solver.num_steps=null."
            )
        if self.num_steps is not None and self.num_steps < 1:
            raise RefusedInput(f"solver.num_steps must be at least 1 per unit of time, not {self.num_steps}.")
        if self.step_size is not None and not 0 < self.step_size < math.inf:
            raise RefusedInput(f"solver.step_size must be positive, not {self.step_size}.")
        if (self.num_steps or 0) > MOST_STEPS or (self.step_size or 1) < 1 / MOST_STEPS:
            typed = f"num_steps={self.num_steps}" if self.num_steps else f"step_size={self.step_size}"
            raise RefusedInput(f"solver.{typed} makes more than {MOST_STEPS:,} steps per unit of time.")

    @property
    def finer(self) -> str:
        return "shorter steps (solver.num_steps=...)"

    def refined(self) -> Self:
        """The same solver with a quarter of the step."""
        if self.num_steps is not None:
            return replace(self, num_steps=min(4 * self.num_steps, MOST_STEPS))
        return replace(self, step_size=self.step_size and max(self.step_size / 4, 1 / MOST_STEPS))

    @property
    def size(self) -> float:
        """The longest step of the grid."""
        return 1 / self.num_steps if self.num_steps else self.step_size or math.inf

    def grids(self, ts: Times) -> list[list[float]]:
        """For each interval between output times, a grid of equal steps that ends exactly on both times.

        The number of steps is (length / step size - 1e-3), rounded up. So 1 / 0.1 is 10 steps and never 11, also if an
        end is perturbed, as for a finite difference.
        """
        return [self._grid(t0, t1, rounding_of(ts, t0, t1)) for t0, t1 in pairwise(read_times(ts))]

    def grid(self, ts: Times) -> list[float]:
        """A grid of equal steps from the first time to the last, whatever the output times in between."""
        times = read_times(ts)
        return self._grid(times[0], times[-1], rounding_of(ts, times[0], times[-1]))

    def ends_at(self, knots: Sequence[float], ts: Times) -> bool:
        """Whether a step ends at each of the knots between the first time and the last, up to rounding."""
        ends = {round(t, 6) for grid in self.grids(ts) for t in grid} if knots else set()
        low, high = min(ends, default=0.0), max(ends, default=0.0)
        return {round(knot, 6) for knot in knots if low < knot < high} <= ends

    def check_times(self, ts: Times) -> None:
        times = read_times(ts)
        self._count(times[0], times[-1], rounding_of(ts, times[0], times[-1]))

    def _grid(self, t0: float, t1: float, rounding: float) -> list[float]:
        steps = self._count(t0, t1, rounding)
        return [t0, *(t0 + (t1 - t0) * k / steps for k in range(1, steps)), t1]

    def _count(self, t0: float, t1: float, rounding: float) -> int:
        """The number of steps from t0 to t1; raises RefusedInput if there are too many."""
        size = self.size
        slack = min(max(rounding / size, 1e-3), 0.5)  # large times in single precision have a larger rounding error
        steps = max(1, math.ceil(abs(t1 - t0) * (1 - 1e-6) / size - slack))
        if steps > MOST_IN_ALL:
            raise RefusedInput(
                f"{steps:.3g} steps of {size:g} lead from t={t0:g} to {t1:g}, and {MOST_IN_ALL:,} are the most. Use "
                f"longer steps{', or an adaptive solver, such as solver=dopri5' if self.of_ordinary_equations else ''}."
            )
        return steps


def check_batch(y0: State) -> None:
    """Raises RefusedInput unless the state has a batch axis."""
    if y0.dim() == 0:
        raise RefusedInput(
            "this solver tells samples apart, and the initial state is a single number. Give y0[None], a batch of one."
        )


Norm = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class AdaptiveSolver(Solver):
    """A solver that chooses its steps so that the local error, in `norm`, stays within tolerance."""

    kind: ClassVar[str] = "adaptive"
    rtol: float
    atol: float
    max_steps: int  # attempted steps of a solve
    norm: Norm | None = None  # None: root mean square over the whole batch; set by gradient modes
    first_step: float | None = None  # None: chosen automatically, for one evaluation; set by gradient modes

    def __post_init__(self) -> None:
        for name in ("rtol", "atol"):
            if not 0 < getattr(self, name) < math.inf:
                raise RefusedInput(f"solver.{name} must be positive, not {getattr(self, name)}.")
        if self.max_steps < 1:
            raise RefusedInput(f"solver.max_steps must be at least 1, not {self.max_steps}.")
        if self.first_step is not None and not 0 < self.first_step < math.inf:
            raise RefusedInput(f"solver.first_step must be positive or null, not {self.first_step}.")

    @property
    def finer(self) -> str:
        return "a smaller tolerance"

    def within(self, longest: float) -> Self:
        """The solver with no step longer than `longest`, in units of time.

        Raises:
            IncompatibleChoice: the solver has no such limit.
        """
        raise IncompatibleChoice(
            f"{self.shown_name} cannot be kept from steps longer than {longest:g}, the longest that the field "
            "allows. Use solver=dopri5, or one of fixed step."
        )

    @property
    def limit_reached(self) -> str:
        """The message of a solve that stopped after `max_steps`: why, and what to do."""
        return f"the limit solver.max_steps={self.max_steps} was reached. Raise it{self.if_stiff}."

    def refined(self) -> Self:
        """The same solver with a hundredth of the tolerances."""
        return replace(self, rtol=self.rtol / 100, atol=self.atol / 100, max_steps=10 * self.max_steps)


def solver_along(solver: Solver, field: VectorField) -> Solver:
    """The solver with its steps limited to the field's longest step, if it is adaptive and the field has one.

    A solver with fixed steps is returned as it is, with a warning if steps exceed a fifth of the shortest period.
    """
    longest = field.longest_step if isinstance(field, VectorField) else None  # a plain function is allowed, too
    if longest is None:
        return solver
    if isinstance(solver, AdaptiveSolver):
        return solver.within(longest)
    if isinstance(solver, FixedStepSolver) and solver.size > 2 * longest * (1 + 1e-6):
        warnings.warn(
            f"{solver.shown_name} takes steps of {solver.size:.3g}, which is more than a fifth of the shortest "
            f"period, {10 * longest:.3g}, that {name_of(field)} knows of: its gradient may be that of another "
            f"solution. Use solver.num_steps={math.ceil(1 / longest)}.",
            stacklevel=1,  # always the same place, so that it is said once
        )
    return solver


def rounding_of(ts: Times, t0: float, t1: float) -> float:
    """A bound of the rounding error of output times between t0 and t1 in the dtype of `ts`."""
    return 8 * torch.finfo(ts.dtype).eps * max(abs(t0), abs(t1))
