"""A trained model as a plain function of tensors, which can be traced."""

from collections.abc import Sequence
from typing import Unpack, final

import torch
from torch import Tensor, nn

from ode_runner.encoding import Encoding, state_and_given
from ode_runner.errors import IncompatibleChoice
from ode_runner.field import VectorField
from ode_runner.models.base import Model
from ode_runner.problem import Solution, SolveOptions
from ode_runner.solvers.base import Solver
from ode_runner.solvers.one_step import AcceptedStep
from ode_runner.solvers.runge_kutta import FixedStepRungeKutta
from ode_runner.types import State, Time, Times


@final
class FieldWithGiven(VectorField):
    """f(t, y) from a field that takes further tensors, which are fixed."""

    def __init__(self, inner: VectorField, given: Sequence[Tensor]) -> None:
        super().__init__()
        self.inner, self.given = inner, tuple(given)

    def forward(self, t: Time, y: State) -> State:
        return self.inner(t, y, *self.given)


@final
class TraceableSolves:
    """An `Integrate` that repeats the steps of a first call, so that tracing meets no data-dependent decision.

    Raises:
        IncompatibleChoice: the solver is not a fixed-step explicit Runge-Kutta method, or a solve has integrals, noise,
            events, breaks or jumps.
    """

    def __init__(self, solver: Solver) -> None:
        self.solver = solver
        self.solves: list[list[AcceptedStep]] = []
        self.fields = set[VectorField]()  # those of all solves
        self.next: int | None = None  # index of the next solve; None while steps are recorded

    def replay(self) -> None:
        """From now on, repeat the steps of the recorded solves, beginning with the first."""
        self.next = 0

    def __call__(
        self, field: VectorField, y0: State | Encoding, ts: Times, **options: Unpack[SolveOptions]
    ) -> Solution:
        solver = self._solver(options, broken=isinstance(y0, Encoding) and bool(y0.breaks))
        self.fields.add(field)
        start, given = state_and_given(y0, options.get("given", ()))
        around = FieldWithGiven(field, given) if given else field
        if self.next is None:
            self.solves.append([step.interval for step in solver.steps(around, start, ts)])
            steps = self.solves[-1]
        else:
            steps = self.solves[self.next]
            self.next += 1
        ys, y = [start], start
        for interval in steps:
            step = solver.recompute(around, interval, y)
            ys += solver.outputs(step)
            y = step.y1
        return Solution(ys=torch.stack(ys))

    def evaluate(
        self, field: VectorField, t: Time, y: State, *, given: Sequence[Tensor] = (), call: str = "forward"
    ) -> Tensor:
        return getattr(field, call)(t, y, *given)

    def _solver(self, options: SolveOptions, *, broken: bool) -> FixedStepRungeKutta:
        if not isinstance(self.solver, FixedStepRungeKutta):
            raise IncompatibleChoice(
                f"part=solve: a file holds a fixed number of steps, and {self.solver.shown_name} is no fixed-step "
                "explicit Runge-Kutta method. Type another, such as solver=rk4 solver.num_steps=20, or part=field."
            )
        asked = [name for name in ("integrals", "noise", "event", "breaks", "jumps") if options.get(name)]
        asked += ["breaks"] * broken
        if asked:
            raise IncompatibleChoice(f"part=solve: a solve with {asked[0]} is in no file. Use part=field.")
        return self.solver


@final
class FrozenModel(nn.Module):
    """Maps inputs (batch, ...) to outputs, along the steps recorded in a first call."""

    def __init__(self, model: Model, ts: Times, solves: TraceableSolves) -> None:
        super().__init__()
        self.model, self.solves = model, solves
        self.register_buffer("ts", ts)

    def forward(self, inputs: Tensor) -> Tensor:
        self.solves.replay()
        return self.model(inputs, self.ts, self.solves).values


@final
class FrozenField(nn.Module):
    """f(t, y, *given) for a time (), a state (batch, ...) and given tensors (batch, ...)."""

    def __init__(self, field: VectorField) -> None:
        super().__init__()
        self.field = field

    def forward(self, t: Time, y: State, *given: Tensor) -> State:
        return self.field(t, y, *given)
