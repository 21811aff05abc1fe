"""The symplectic adjoint: backpropagation with the graph of only one evaluation in memory at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from ode_runner.errors import IncompatibleChoice
from ode_runner.fields.counted_field import CountedField
from ode_runner.gradients.base import GradientMode
from ode_runner.gradients.recomputation import StepVJP, solve_and_recompute
from ode_runner.gradients.vjp import field_vjp
from ode_runner.problem import Problem, Solution
from ode_runner.solvers.base import Solver
from ode_runner.solvers.one_step import AcceptedStep, ExplicitRungeKutta
from ode_runner.solvers.tableau import Tableau, advance, stage_time, time_tensor
from ode_runner.types import State


@final
@dataclass(frozen=True, kw_only=True)
class Symplectic(GradientMode):
    """Like `checkpoint`, but differentiates one stage at a time, so that memory holds the graph of one evaluation.

    Exact for the computed solution. It is the adjoint Runge-Kutta method whose coefficients make the pair conserve the
    product of tangent and adjoint, written stage by stage so that zero weights need no special case. Stores one state
    per accepted step. The backward pass evaluates the stages of every accepted step twice more, once for their states
    and once for their graphs; for outputs inside a step also f(t1, y1) and the extra stages of its dense output, the
    last of them only once.

    Matsubara, Miyatake, Yaguchi. Symplectic Adjoint Method for Exact Gradient of Neural ODE with Minimal Memory.
    NeurIPS 2021. · Sanz-Serna. Symplectic Runge-Kutta Schemes for Adjoint Equations, Automatic Differentiation, Optimal
    Control, and More. SIAM Review 58, 2016.
    """

    requires: ClassVar[type] = ExplicitRungeKutta
    requirement: ClassVar[str] = "an explicit Runge-Kutta solver, whose stages can be taken one at a time"
    exact: ClassVar[bool] = True
    takes_complex: ClassVar[bool] = True
    redraws: ClassVar[bool] = True

    def solve(self, solver: Solver, problem: Problem) -> Solution:
        if not isinstance(solver, ExplicitRungeKutta):
            raise IncompatibleChoice(f"gradient=symplectic needs {self.requirement}.")
        return solve_and_recompute(solver, problem, pull_back=_pull_back)


def _pull_back(step: StepVJP[ExplicitRungeKutta]) -> Sequence[Tensor]:
    """Pull cotangents back through one step, stage by stage from the last to the first."""
    solver, field, interval, y0, cotangents, of_integrals, parameters, redrawn = step
    tableau, t0, t1 = solver.tableau, interval.t0, interval.t1
    dt, sums = t1 - t0, [torch.zeros_like(p) for p in parameters]
    _, ks = solver.step(field, t0, t1, y0, field(time_tensor(t0, y0), y0))
    end = tableau.b[: tableau.stages]
    rows = [*tableau.a[: tableau.stages], *([end, *tableau.extra_stages] if interval.dense else [])]
    for row in rows[tableau.stages : -1]:
        ks.append(field(time_tensor(stage_time(t0, t1, sum(row)), y0), advance(y0, dt, row, ks)))
    dks = [torch.zeros_like(y0) for _ in rows]
    dy0 = _spread_outputs(dks, dt, tableau, interval, cotangents)
    drates: list[Tensor | None] = [None] * len(rows)
    for t, c in zip((t1, *interval.due) if of_integrals else (), of_integrals, strict=True):
        for j, weight in enumerate(end if t == t1 else tableau.within(interval.fraction(t))):
            drates[j] = _added(drates[j], dt * weight, c)
    for i, row in reversed(list(enumerate(rows))):
        y = advance(y0, dt, row, ks[:i])
        if redrawn is not None:
            redrawn.place = i
        dy = _vjp(field, stage_time(t0, t1, sum(row)), y, dks[i], drates[i], parameters, sums)
        dy0 = dy0 + dy
        _spread(dks, dt, row, dy)
    return [dy0, *sums]


def _spread_outputs(
    dks: list[Tensor], dt: float, tableau: Tableau, interval: AcceptedStep, cotangents: Sequence[Tensor]
) -> Tensor:
    """Add the cotangents of the step's end and its outputs to `dks`; returns their sum, a part of dL/dy0."""
    dy1, inside = cotangents[0], torch.zeros_like(cotangents[0])
    for t, dy in zip(interval.due, cotangents[1:], strict=True):
        if t == interval.t1:
            dy1 = dy1 + dy
        else:
            inside = inside + dy
            _spread(dks, dt, tableau.within(interval.fraction(t)), dy)
    _spread(dks, dt, tableau.b[: tableau.stages], dy1)
    return inside + dy1


def _spread(dks: list[Tensor], dt: float, weights: Sequence[float], dy: Tensor) -> None:
    """Add to `dks` the cotangents of the stages' derivatives, for a state that is their weighted sum."""
    for j, weight in enumerate(weights):
        if weight:
            dks[j] = torch.add(dks[j], dy, alpha=dt * weight)


def _added(total: Tensor | None, factor: float, part: Tensor) -> Tensor | None:
    """total + factor * part; None means zero."""
    if not factor:
        return total
    return factor * part if total is None else torch.add(total, part, alpha=factor)


def _vjp(
    field: CountedField,
    t: float,
    y: State,
    cotangent: Tensor,
    of_rates: Tensor | None,
    parameters: Sequence[Tensor],
    sums: list[Tensor],
) -> Tensor:
    """The cotangent of y from those of f(t, y) and the integrands; adds the parameters' gradients to `sums`."""
    with torch.enable_grad():
        y = y.detach().requires_grad_()
        dy = field(time_tensor(t, y), y)
        found = field_vjp(field, time_tensor(t, y), y, dy, [y, *parameters], cotangent, of_rates)
    for total, part in zip(sums, found[1:], strict=True):
        total += part
    return found[0]
