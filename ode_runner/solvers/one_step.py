"""Steps as pure functions: a solve is a sequence of them, and a gradient mode can recompute each one."""

import abc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, ClassVar, Self, final

import torch
from torch import Tensor

from ode_runner.event import Stop
from ode_runner.field import VectorField
from ode_runner.problem import Solution
from ode_runner.solvers import quadrature
from ode_runner.solvers.base import Solver
from ode_runner.solvers.event_search import SoughtEvent
from ode_runner.solvers.quadrature import Node
from ode_runner.solvers.stepper import Stepper, Stepping, StepResult
from ode_runner.solvers.tableau import Tableau, advance, explicit_step, stage_time, time_tensor
from ode_runner.types import State, Times, Trajectory

NONE: Mapping[str, Tensor] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True, slots=True)
class AcceptedStep:
    """A `Step` without its tensors: the times of an accepted step and the output times in (t0, t1]."""

    t0: float
    t1: float
    due: list[float]
    rejected: int = 0  # number of rejected attempts from t0
    ahead: float | None = None  # the size that step control would try next
    last: bool = False  # whether it ends the solve, if the solver says so
    stops: bool = False  # whether it ends at an event, which ends the solve

    @property
    def dense(self) -> bool:
        """Whether an output time lies within the step rather than at its end."""
        return any(t != self.t1 for t in self.due)

    def fraction(self, t: float) -> float:
        """The fraction of the step at time `t`, from 0 at t0 to 1 at t1."""
        return (t - self.t0) / (self.t1 - self.t0)

    def powers(self) -> list[list[float]]:
        """The powers 0 to 4 of the fraction of each output time due."""
        return [[1.0, x, x * x, x**3, x**4] for x in map(self.fraction, self.due)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Step(AcceptedStep):
    """An accepted step from (t0, y0) to (t1, y1)."""

    y0: State
    y1: State
    ks: list[Tensor]  # the stages' derivatives, the first at (t0, y0)
    f1: State | None = None  # f(t1, y1), if it was evaluated
    inner: Sequence[Tensor] = ()  # slopes at the tableau's extra stages, if they were evaluated
    curve: Tensor | None = None  # (5, batch, *state): the dense output's coefficients; then `ks` may be missing
    rates: Sequence[Tensor | None] = ()  # integrands at the first of `nodes`, if step control evaluated them
    gain: Tensor | None = None  # increments of integrals, (batch, integral), if the method computes them in the step

    @property
    def interval(self) -> AcceptedStep:
        """The step without its tensors."""
        return AcceptedStep(
            t0=self.t0,
            t1=self.t1,
            due=self.due,
            rejected=self.rejected,
            ahead=self.ahead,
            last=self.last,
            stops=self.stops,
        )


def solution_along(
    accepted_steps: Sequence[AcceptedStep], ys: Trajectory, integrals: Mapping[str, Tensor] = NONE
) -> Solution:
    """The solution of these steps. The smallest step excludes the last one, which the end of the span shortens."""
    ahead = accepted_steps[-1].ahead if accepted_steps else None
    stops = bool(accepted_steps) and accepted_steps[-1].stops
    lengths = [abs(interval.t1 - interval.t0) for interval in accepted_steps]
    return Solution(
        ys=ys,
        integrals=integrals,
        accepted=len(accepted_steps),
        rejected=sum(interval.rejected for interval in accepted_steps),
        next_step=ahead,
        smallest_step=None if ahead is None else min(lengths[:-1] or lengths),
        stop=Stop(times=torch.tensor([accepted_steps[-1].t1], dtype=torch.float64)) if stops else None,
    )


@dataclass(frozen=True, kw_only=True)
class StepwiseSolver(Solver):
    """A solver whose steps depend only on time and state at their beginning, so that each can be recomputed alone."""

    @abc.abstractmethod
    def steps(self, field: VectorField, y0: State, ts: Times) -> Iterator[Step]:
        """The accepted steps of a solve, one after another; every output time after the first is due in one of them."""

    def solve(self, field: VectorField, y0: State, ts: Times) -> Solution:
        return self.gathered(field, y0, ts).solution()

    def gathered(self, field: VectorField, y0: State, ts: Times) -> "Gathered":
        """All the steps of a solve."""
        gathered = Gathered(self, field, y0)
        for step in self.steps(field, y0, ts):
            gathered.add(step)
        return gathered

    def to_be_recomputed(self) -> Self:
        """The solver to use if the steps of the solve will be recomputed for gradients."""
        return self

    @abc.abstractmethod
    def outputs(self, step: Step) -> list[State]:
        """The states at the output times due in the step."""

    def gains(self, field: VectorField, step: Step) -> list[Tensor]:
        """The increments of integrals, (batch, integral) each: up to t1, then up to each output time due.

        Empty if there are no integrals.
        """
        del field, step
        return []

    @abc.abstractmethod
    def recompute(self, field: VectorField, interval: AcceptedStep, y0: State) -> Step:
        """The step recomputed from `y0`, with everything that its outputs need."""


class Gathered:
    """Gathers the solution from the steps of a solve, one after another."""

    def __init__(self, solver: StepwiseSolver, field: VectorField, y0: State) -> None:
        self.solver, self.field = solver, field
        self.ys, self.accepted_steps = [y0], list[AcceptedStep]()
        self.q = quadrature.begin(field, y0)
        self.qs = [self.q]

    def add(self, step: Step) -> None:
        """Add the next step: its outputs and integrals."""
        self.ys += self.solver.outputs(step)
        self.accepted_steps.append(step.interval)
        if len(self.q):
            whole, *due = self.solver.gains(self.field, step)
            self.qs += [self.q + gain for gain in due]
            self.q = self.q + whole

    def tensors(self) -> tuple[Trajectory, Tensor]:
        """States (time, batch, *state) and integrals (time, batch, integral), which may be without elements."""
        return torch.stack(self.ys), torch.stack(self.qs) if len(self.q) else self.q[None]

    def solution(self) -> Solution:
        """The solution up to the last step that was added."""
        ys, qs = self.tensors()
        return solution_along(self.accepted_steps, ys, quadrature.named(self.field, qs))


@dataclass(frozen=True, kw_only=True)
class RungeKutta(StepwiseSolver):
    """A Runge-Kutta method. Its steps have dense output.

    Hairer, Norsett, Wanner. Solving Ordinary Differential Equations I. Springer 1993, II.1 and II.6.
    """

    tableau: ClassVar[Tableau]
    stepping: Stepping | None = None  # None: eager steps; set by compiled solves

    def stepper(self, field: VectorField) -> Stepper:
        """The stepper of a solve of the field."""
        return EagerStepper(self, field) if self.stepping is None else self.stepping(field)

    @abc.abstractmethod
    def step(self, field: VectorField, t0: float, t1: float, y0: State, f0: State) -> tuple[State, list[Tensor]]:
        """y(t1) and the stages' derivatives, the first of which is the given f0 = f(t0, y0)."""

    def slope(self, field: VectorField, t0: float, y0: State) -> State:
        """f(t0, y0), the first stage of a step."""
        return field(time_tensor(t0, y0), y0)

    def check_integrals(self) -> None:
        """Accepted: integrals use the stages of each accepted step."""

    def recompute(self, field: VectorField, interval: AcceptedStep, y0: State) -> Step:
        """The step recomputed; evaluates f(t1, y1) and the extra stages only if there are outputs inside."""
        t0, t1 = interval.t0, interval.t1
        y1, ks = self.step(field, t0, t1, y0, self.slope(field, t0, y0))
        f1 = field(time_tensor(t1, y1), y1) if interval.dense else None
        step = Step(t0=t0, t1=t1, due=interval.due, y0=y0, y1=y1, ks=ks, f1=f1)
        return self.detailed(field, step) if interval.dense else step

    def gains(self, field: VectorField, step: Step) -> list[Tensor]:
        if quadrature.counted(field) is None:
            return []
        if not step.ks:  # a step of length 0
            return [quadrature.begin(field, step.y0) for _ in (step.t1, *step.due)]
        rows = [self.weights(step, t) for t in (step.t1, *step.due)]
        return quadrature.gains(field, self.nodes(step), step.t1 - step.t0, rows, step.rates)

    def nodes(self, step: Step) -> list[Node]:
        """Time, state and derivative of each stage, and of f1 and the tableau's extra stages if the step has them."""
        t0, t1, ks = step.t0, step.t1, [*step.ks, *([] if step.f1 is None else [step.f1]), *step.inner]

        def node(row: Sequence[float], k: Tensor) -> Node:
            return Node(stage_time(t0, t1, sum(row)), advance(step.y0, t1 - t0, row, ks[: len(row)]), k)

        nodes = [node(row, k) for row, k in zip(self.tableau.a, step.ks, strict=False)]
        end = [] if step.f1 is None else [Node(t1, step.y1, step.f1)]
        return [*nodes, *end, *(node(row, k) for row, k in zip(self.tableau.extra_stages, step.inner, strict=False))]

    def weights(self, step: Step, t: float) -> list[float]:
        """The weights of the nodes' derivatives in (y(t) - y0) / (t1 - t0); `t` is t1 or an output time in the step."""
        count = len(step.ks) + (step.f1 is not None) + len(step.inner)
        row = self.tableau.b[: len(step.ks)] if t == step.t1 else self.tableau.within(step.fraction(t))
        return [*row, *[0.0] * (count - len(row))]

    def detailed(self, field: VectorField, step: Step) -> Step:
        """The step with the slopes at the tableau's extra stages, one evaluation each, if its f1 is known."""
        if step.f1 is None or len(step.inner) == len(self.tableau.extra_stages):
            return step
        t0, t1, ks = step.t0, step.t1, [*step.ks, step.f1]
        for row in self.tableau.extra_stages:
            ks.append(field(time_tensor(stage_time(t0, t1, sum(row)), step.y0), advance(step.y0, t1 - t0, row, ks)))
        return replace(step, inner=ks[len(step.ks) + 1 :])

    def outputs(self, step: Step) -> list[State]:
        """States at the output times due, by the step's dense output."""
        if step.curve is None or not step.dense:
            return [step.y1 if t == step.t1 else self._within(step, t) for t in step.due]
        ys = step.y0.new_tensor(step.powers()) @ step.curve.flatten(1)
        each = zip(step.due, ys.view(-1, *step.y0.shape).unbind(), strict=True)
        return [step.y1 if t == step.t1 else y for t, y in each]

    def _within(self, step: Step, t: float) -> State:
        if step.f1 is None or len(step.inner) < len(self.tableau.extra_stages):
            raise ValueError(
                "the dense output of a step needs the derivative at its end, and those at the extra stages within"
            )
        ks = [*step.ks, step.f1, *step.inner]
        return advance(step.y0, step.t1 - step.t0, self.tableau.within(step.fraction(t)), ks)

    def middle(self, step: Step) -> State | None:
        """The state in the middle of the step; None if the tableau has no weights for it, or f1 is unknown."""
        if self.tableau.middle is None or step.f1 is None:
            return None
        ks = [*step.ks, step.f1] if self.tableau.first_same_as_last or step.inner else step.ks
        return advance(step.y0, step.t1 - step.t0, self.tableau.middle, [*ks, *step.inner[:-1]])


@final
class EagerStepper(Stepper):
    """Takes steps eagerly, by the solver's own operations, which autograd can record."""

    def __init__(self, solver: RungeKutta, field: VectorField) -> None:
        self.solver, self.field = solver, field

    def slope(self, t: float, y: State) -> State:
        return self.solver.slope(self.field, t, y)

    def step(self, t0: float, t1: float, y0: State, f0: State | None) -> StepResult:
        y1, ks = self.solver.step(self.field, t0, t1, y0, self.slope(t0, y0) if f0 is None else f0)
        return StepResult(y1, ks)


@dataclass(frozen=True, kw_only=True)
class ExplicitRungeKutta(RungeKutta):
    """An explicit method: each stage is one evaluation at a point that depends on the previous stages only."""

    sought: SoughtEvent | None = None  # an event to find, which ends the solve; set by gradients/events.py

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "tableau" in vars(cls) and cls.step is ExplicitRungeKutta.step:  # other steps may read other rows
            cls.tableau.check_rows(own=False)

    def step(self, field: VectorField, t0: float, t1: float, y0: State, f0: State) -> tuple[State, list[Tensor]]:
        def slope(c: float, y: State) -> State:
            return field(time_tensor(stage_time(t0, t1, c), y), y)

        return explicit_step(self.tableau, slope, t1 - t0, y0, f0, rows=self.tableau.stages)
