"""The continuous adjoint along the dense output of the forward solve."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from ode_runner.devices.transfer import select_times
from ode_runner.errors import IncompatibleChoice
from ode_runner.field import VectorField
from ode_runner.fields.counted_field import CountedField
from ode_runner.gradients.base import GradientMode
from ode_runner.gradients.continuous import (
    adjoint_slopes,
    backward_solver,
    block_sizes,
    check_a_use,
    enter,
    split_like,
    warm_started,
)
from ode_runner.gradients.solve_rule import SolveRule, solve_by_rule
from ode_runner.problem import Problem, Solution
from ode_runner.solvers.base import Solver
from ode_runner.solvers.dense_output import DenseOutput, HermiteBirkhoffCurve, Quartic
from ode_runner.solvers.one_step import AcceptedStep, ExplicitRungeKutta, Gathered
from ode_runner.solvers.tableau import time_tensor
from ode_runner.types import State, Time, Times


@final
@dataclass(frozen=True, kw_only=True)
class Interpolated(GradientMode):
    """The adjoint method with the state from the forward solve's dense output, instead of a backward solve.

    So the state cannot drift, even if the field is contracting, and the backward solve is for the adjoint alone. Stores
    two or three states per accepted step; six with `dopri8`, whose dense output takes three evaluations per step. It is
    not exact: its error depends on the tolerances of both solves and on the dense output, which is cubic Hermite for
    methods without their own.

    `rtol` and `atol` are the tolerances of the backward solve; None: those of the solver.

    Rackauckas and others. Universal Differential Equations for Scientific Machine Learning. 2020, InterpolatingAdjoint.
    """

    rtol: float | None
    atol: float | None

    requires: ClassVar[type] = ExplicitRungeKutta
    requirement: ClassVar[str] = "an explicit Runge-Kutta solver, whose dense output it follows back"
    solves_an_adjoint: ClassVar[bool] = True
    exact: ClassVar[bool] = False

    def check(self, solver: Solver) -> None:
        check_a_use(solver, rtol=self.rtol, atol=self.atol)

    def solve(self, solver: Solver, problem: Problem) -> Solution:
        if not isinstance(solver, ExplicitRungeKutta):
            raise IncompatibleChoice(f"gradient=interpolated needs {self.requirement}.")
        field, y0, ts = problem.field, problem.y0, problem.ts
        backward = backward_solver(solver, block_sizes(field, y0)[1:], rtol=self.rtol, atol=self.atol)
        if not torch.is_grad_enabled() or bool((ts == ts[0]).all()):
            return solver.solve(field, y0, ts)  # no backward pass, or a span of length 0
        return solve_by_rule(_InterpolatedRule(solver, backward), field, y0, ts)


class _InterpolatedRule(SolveRule):
    def __init__(self, solver: ExplicitRungeKutta, backward: Solver) -> None:
        self.solver, self.backward = solver, backward

    def solve(self, field: CountedField, y0: State, ts: Times) -> tuple[Solution, Sequence[Tensor]]:
        gathered, states, slopes, middles, inner = Gathered(self.solver, field, y0), [y0], [], [], list[Tensor]()
        slope: State | None = None
        for taken in self.solver.steps(field, y0, ts):
            step = self.solver.detailed(field, taken)
            gathered.add(step)
            states.append(step.y1)
            slopes.append(step.ks[0])
            middle = self.solver.middle(step)
            if middle is not None:
                middles.append(middle)
            inner += step.inner
            slope = step.f1
        self.accepted_steps = steps = gathered.accepted_steps
        if steps:  # with fixed steps, the last slope has not been evaluated
            slopes.append(field(time_tensor(steps[-1].t1, y0), states[-1]) if slope is None else slope)
        self.counts = (len(states), len(slopes), len(middles), len(inner))
        return gathered.solution(), [ts, *states, *slopes, *middles, *inner]

    def pull_back(
        self, field: CountedField, kept: Sequence[Tensor], parameters: Sequence[Tensor], dys: Tensor, dqs: Tensor
    ) -> tuple[Tensor, Sequence[Tensor]]:
        ts, *saved = kept
        parts = iter(saved)
        states, slopes, middles, inner = ([next(parts) for _ in range(count)] for count in self.counts)
        path = _Path(self.solver.tableau.dense, self.accepted_steps, states, slopes, middles, inner)
        adjoint_field = _AdjointAlong(path, field, parameters)
        solver, a, c = self.backward, dys[-1], torch.zeros_like(dqs[0])
        g = a.new_zeros(sum(p.numel() for p in parameters))
        for i in range(len(ts) - 1, 0, -1):
            if field.names:
                adjoint_field.of_integrals = c = c + dqs[i]
            solution = solver.solve(adjoint_field, torch.cat([a.reshape(-1), g]), select_times(ts, [i, i - 1]))
            solver = warm_started(solver, solution)
            enter(field, solution)
            a, g = solution.ys[-1].split([dys[0].numel(), g.numel()])
            a = a.view_as(dys[0]) + dys[i - 1]
        return a, split_like(g, parameters)


class _Path:
    """The dense output of a whole solve."""

    def __init__(
        self,
        dense: DenseOutput,
        accepted_steps: Sequence[AcceptedStep],
        states: list[State],
        slopes: list[State],
        middles: list[State],
        inner: list[State],
    ) -> None:
        self.dense, self.accepted_steps = dense, accepted_steps
        self.states, self.slopes, self.middles, self.inner = states, slopes, middles, inner
        self.sign = 1 if accepted_steps and accepted_steps[-1].t1 > accepted_steps[0].t0 else -1
        self.ends = [self.sign * interval.t1 for interval in accepted_steps]
        self.latest: tuple[int, Quartic | HermiteBirkhoffCurve] | None = None  # used many times in a row

    def __call__(self, t: float) -> State:
        i = min(bisect_left(self.ends, self.sign * t), len(self.ends) - 1)
        if self.latest is None or self.latest[0] != i:
            self.latest = (i, self._piece(i))
        return self.latest[1](self.accepted_steps[i].fraction(t))

    def _piece(self, i: int) -> Quartic | HermiteBirkhoffCurve:
        interval, many = self.accepted_steps[i], len(self.inner) // len(self.accepted_steps)
        return self.dense.curve(
            interval.t1 - interval.t0,
            ends=(self.states[i], self.states[i + 1]),
            slopes=(self.slopes[i], self.slopes[i + 1]),
            middle=self.middles[i] if self.middles else None,
            inner=self.inner[i * many : (i + 1) * many],
        )


@final
class _AdjointAlong(VectorField):
    """d/dt of the flat (a, g): -a df/dy and -a df/dtheta at the state of `path` at t."""

    def __init__(self, path: _Path, field: CountedField, parameters: Sequence[Tensor]) -> None:
        super().__init__()
        self.path, self.field, self.wanted = path, field, parameters
        self.of_integrals: Tensor | None = None  # (batch, integral): dL/dq; constant between two output times

    def forward(self, t: Time, y: State) -> State:
        state = self.path(float(t))
        a = y[: state.numel()].view_as(state)
        return adjoint_slopes(self.field, t, state, a, self.of_integrals, self.wanted)[1]
