"""What a solver is, and the two ways in which its steps are chosen."""

import abc
import math
import warnings
from collections.abc import Callable, Mapping
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

MOST_STEPS = 1_000_000  # of a fixed grid, per unit of time: single precision hardly tells shorter ones apart
MOST_IN_ALL = 10_000_000  # from one time to another: minutes, of the smallest field


@dataclass(frozen=True, kw_only=True)
class Solver(abc.ABC):
    """A numerical method for dy/dt = f(t, y), y(ts[0]) = y0."""

    kind: ClassVar[str]  # in words, for messages and tables
    fields: ClassVar[type] = VectorField  # the least that a field must offer
    fields_in_words: ClassVar[str] = "fields of ordinary equations"  # the same
    example: ClassVar[str] = "task=pendulum"  # whose true field offers that, for messages
    differentiable: ClassVar[bool] = True  # False: `solve` leaves no graph, and a mode must bring the derivative itself
    implicit: ClassVar[bool] = False  # True: stable where the field decays fast, for it solves equations
    order: int = field(init=False)  # global order of convergence: the error at a fixed time is O(dt ** order)

    @abc.abstractmethod
    def solve(self, field: VectorField, y0: State, ts: Times) -> Solution:
        """Values at `ts`, which may run forwards or backwards, by differentiable operations only.

        Raises:
            SolverFailed: the end of the time span was not reached.
        """

    @property
    def shown_name(self) -> str:
        """What messages call it: as it is typed, or one's own by its class."""
        return as_chosen("solver", self)

    @property
    def if_stiff(self) -> str:
        """What to type where an explicit method fails for stiffness, as the end of a sentence; of others nothing."""
        explicit = self.of_ordinary_equations and not self.implicit
        return ", or, if the problem is stiff, use solver=kvaerno3, which is implicit" if explicit else ""

    @property
    def draws(self) -> bool:
        """Whether a solve depends on the noise that it is given, besides the field and the initial state."""
        return False

    @property
    def finer(self) -> str:
        """What to try where the error of its steps is too large."""
        return "another solver"

    def idle_options(self) -> Mapping[str, str]:
        """The options that nothing reads beside the others as they are, each with the reason, in a clause."""
        return {}

    def idle_options_for(self, field: VectorField | None) -> Mapping[str, str]:
        """The options that nothing reads where this field is solved, each with the reason, in a clause."""
        del field
        return {}

    def check_times(self, ts: Times) -> None:
        """Raises RefusedInput if a solve over these times would take more steps than anybody waits for."""
        del ts

    def check_state(self, y0: State) -> None:
        """Raises RefusedInput if the solver does not take states of this shape."""
        del y0

    @property
    def of_ordinary_equations(self) -> bool:
        """Whether it solves dy/dt = f(t, y) of any field; samplers and stochastic solvers take some kinds alone."""
        return issubclass(VectorField, self.fields)

    def takes_field(self, field: VectorField) -> bool:
        """Whether the field is of the kind that the solver evaluates, by all the calls that it makes."""
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
        raise IncompatibleChoice(
            f"{self.shown_name} evaluates a field by {calls}, and {name_of(field)} is a {kind.__name__}, which is "
            f"evaluated by {', '.join(kind.call_weights)}. Use a solver for such fields."
        )

    @classmethod
    def _calls(cls) -> Mapping[str, float]:
        weights: Mapping[str, float] = cls.fields.call_weights  # type: ignore[attr-defined]
        return weights

    def check_integrals(self) -> None:
        """Raises IncompatibleChoice where nothing can be integrated along a solve: nobody has said how."""
        raise IncompatibleChoice(
            f"{self.shown_name} is {self.kind}, and has no rule for integrals along a solve. Use a Runge-Kutta, "
            "reversible or splitting solver, such as solver=dopri5."
        )

    @abc.abstractmethod
    def refined(self) -> Self:
        """The same method with steps so much smaller that its error hardly matters."""


@dataclass(frozen=True, kw_only=True)
class FixedStepSolver(Solver):
    """A solver whose grid is known before the solve. Give `num_steps` per unit of time, or `step_size`."""

    kind: ClassVar[str] = "of fixed step"
    num_steps: int | None
    step_size: float | None

    def __post_init__(self) -> None:
        if (self.num_steps is None) == (self.step_size is None):
            raise RefusedInput(
                f"solver.num_steps={as_typed(self.num_steps)} solver.step_size={as_typed(self.step_size)}: a "
                "fixed-step solver needs exactly one. Type solver.num_steps=20, or solver.step_size=0.05 "
                "solver.num_steps=null."
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
        """For each interval between output times, equal steps that end exactly on both outputs.

        The count is a rounded-up ratio less a thousandth, so that 1 / 0.1 is 10 steps and never 11, and stays so where
        an end is moved to see what that does.
        """
        return [self._grid(t0, t1, rounding_of(ts, t0, t1)) for t0, t1 in pairwise(read_times(ts))]

    def grid(self, ts: Times) -> list[float]:
        """Equal steps from the first time to the last, as if no output were asked for in between."""
        times = read_times(ts)
        return self._grid(times[0], times[-1], rounding_of(ts, times[0], times[-1]))

    def check_times(self, ts: Times) -> None:
        times = read_times(ts)
        self._count(times[0], times[-1], rounding_of(ts, times[0], times[-1]))

    def _grid(self, t0: float, t1: float, rounding: float) -> list[float]:
        steps = self._count(t0, t1, rounding)
        return [t0, *(t0 + (t1 - t0) * k / steps for k in range(1, steps)), t1]

    def _count(self, t0: float, t1: float, rounding: float) -> int:
        """Steps from a time to another; raises RefusedInput where they are too many."""
        size = self.size
        slack = min(max(rounding / size, 1e-3), 0.5)  # far from 0 in single precision, times are known less well
        steps = max(1, math.ceil(abs(t1 - t0) * (1 - 1e-6) / size - slack))
        if steps > MOST_IN_ALL:
            raise RefusedInput(
                f"{steps:.3g} steps of {size:g} lead from t={t0:g} to {t1:g}, and {MOST_IN_ALL:,} are the most. Use "
                f"longer steps{', or an adaptive solver, such as solver=dopri5' if self.of_ordinary_equations else ''}."
            )
        return steps


def check_batch(y0: State) -> None:
    """Raises RefusedInput unless there are samples to tell apart."""
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
    max_steps: int  # attempted, over the whole solve
    norm: Norm | None = None  # None: root mean square over the whole batch
    first_step: float | None = None  # None: chosen, for one evaluation; both are for gradient modes to set

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
        """The solver with no step longer than `longest`, in the unit of the times.

        Raises:
            IncompatibleChoice: it has no way to keep to it.
        """
        raise IncompatibleChoice(
            f"{self.shown_name} cannot be kept from steps longer than {longest:g}, the longest that the field "
            "allows. Use solver=dopri5, or one of fixed step."
        )

    @property
    def limit_reached(self) -> str:
        """Why a solve stopped after `max_steps`, and what to do."""
        return f"the limit solver.max_steps={self.max_steps} was reached. Raise it{self.if_stiff}."

    def refined(self) -> Self:
        """The same solver with a hundredth of the tolerances."""
        return replace(self, rtol=self.rtol / 100, atol=self.atol / 100, max_steps=10 * self.max_steps)


def solver_along(solver: Solver, field: VectorField) -> Solver:
    """The solver for a field that may know its time scales: an adaptive one takes no longer steps than it allows.

    A fixed grid is taken as it is, and one that is coarser than a fifth of the shortest period warned of.
    """
    longest = field.longest_step if isinstance(field, VectorField) else None  # a plain function may stand for one
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
    """By how much output times between t0 and t1 may be off by rounding, in the type of `ts`."""
    return 8 * torch.finfo(ts.dtype).eps * max(abs(t0), abs(t1))
