"""Radau's method of order 5."""

from dataclasses import dataclass, field, replace
from typing import ClassVar, final

import torch
from torch import Tensor

from ode_runner.field import VectorField
from ode_runner.solvers.embedded import AdaptiveRungeKutta
from ode_runner.solvers.implicit import ImplicitSolver
from ode_runner.solvers.linearised import linearise
from ode_runner.solvers.newton import solve_stage, solve_stages
from ode_runner.solvers.one_step import Step
from ode_runner.solvers.tableau import EmbeddedTableau, advance, at, stage_time
from ode_runner.types import State

S = 6**0.5
C = ((4 - S) / 10, (4 + S) / 10, 1.0)
A = (
    ((88 - 7 * S) / 360, (296 - 169 * S) / 1800, (-2 + 3 * S) / 225),
    ((296 + 169 * S) / 1800, (88 + 7 * S) / 360, (-2 - 3 * S) / 225),
    ((16 - S) / 36, (16 + S) / 36, 1 / 9),
)
G = 1 / (3 + 3 ** (2 / 3) - 3 ** (1 / 3))  # the inverse of A's eigenvalues: the real one of A itself, 0.2749
E = tuple(G / 3 * weight for weight in (-13 - 7 * S, -13 + 7 * S, -1.0))  # of the stages' increments, in the judge
ERROR = tuple(sum(E[i] * A[i][j] for i in range(3)) for j in range(3))


@final
@dataclass(frozen=True, kw_only=True)
class RadauIIA5(ImplicitSolver, AdaptiveRungeKutta):
    """Order 5, L-stable and stiffly accurate: three stages, which are one system of three times the state's size.

    The judge is of order 3 and adds f(t0, y0) to the stages; what it says is divided by I - dt g df/dy, so that stiff
    parts do not shorten the steps. Dense output is a quartic, so that outputs are of order 5 as well: the collocation
    polynomial, bent by what the field says of its slope at t0. Outputs within a step take a fourth stage for that,
    whose place is as far from y0 as the judge finds the error large. No output is bent by more than a quarter of that,
    so where the field is stiff the quartic is as smooth as the stages are. The bending is our own.

    Hairer, Wanner. Solving Ordinary Differential Equations II. Springer 1996, IV.8.
    """

    kind: ClassVar[str] = "adaptive and implicit"
    suspicion: ClassVar[str] = "the solution has no bound, or the field is not smooth,"
    order: int = field(default=5, init=False)
    tableau: ClassVar[EmbeddedTableau] = EmbeddedTableau(
        a=((), *((0.0, *row) for row in A)),
        b=(0.0, *A[2]),
        b_error=(G, *ERROR),
    )

    @property
    def error_order(self) -> int:
        return 4

    def step(self, field: VectorField, t0: float, t1: float, y0: State, f0: State) -> tuple[State, list[Tensor]]:
        """The derivatives are f0, those of the stages, and last the judgement over the length of the step."""
        dt = t1 - t0
        ts = [at(stage_time(t0, t1, c), y0) for c in C]
        begin = torch.stack([y0] * 3)
        stages = solve_stages(field, ts, begin, [[dt * a for a in row] for row in A], guess=begin)
        ks = torch.tensordot(begin.new_tensor(A).inverse() / dt, stages - begin, dims=1)  # f, without its rounding
        return stages[2], [f0, *ks, self._judged(field, t0, dt, y0, [f0, *ks])]

    @torch.no_grad()
    def _judged(self, field: VectorField, t0: float, dt: float, y0: State, ks: list[Tensor]) -> Tensor:
        difference = advance(torch.zeros_like(y0), 1.0, self.tableau.b_error, ks)
        system = linearise(field, [at(t0, y0)], y0[None], difference.new_tensor([[dt * G]]))
        return system.solve(difference[None])[0]

    def difference(self, y0: State, dt: float, ks: list[Tensor]) -> Tensor:
        return dt * ks[4]

    def detailed(self, field: VectorField, step: Step) -> Step:
        """The step with (z - y0) / dt, where z = y0 + dt (g f(t0, z) + the judge's weights @ ks) is the fourth stage.

        Zero where Newton's method does not find it, which leaves the collocation polynomial.
        """
        if step.inner:
            return step
        y0, dt = step.y0, step.t1 - step.t0
        z = solve_stage(field, at(step.t0, y0), advance(y0, dt, ERROR, step.ks[1:4]), dt * G, guess=y0)
        return replace(step, inner=[((z if torch.isfinite(z).all() else y0) - y0) / dt])

    def outputs(self, step: Step) -> list[State]:
        """States at the output times due, by the polynomial through y0 with the stages' derivatives, bent."""
        return [step.y1 if t == step.t1 else self._within(step, t) for t in step.due]

    def _within(self, step: Step, t: float) -> State:
        x = step.fraction(t)
        return advance(step.y0, step.t1 - step.t0, [*collocation(x), bending(x)], [*step.ks[1:4], *step.inner])


def collocation(x: float) -> list[float]:
    """Integrals from 0 to x of the polynomials that are 1 at one of the stages and 0 at the other two."""
    weights = []
    for i, c in enumerate(C):
        a, b = (other for j, other in enumerate(C) if j != i)
        integral = x**3 / 3 - (a + b) * x**2 / 2 + a * b * x
        weights.append(integral / ((c - a) * (c - b)))
    return weights


def bending(x: float) -> float:
    """Integral from 0 to x of the cubic that is 1/g at 0 and 0 at the stages: 0 at 1, and nowhere above 1/4."""
    return (x - 9 * x**2 / 2 + 6 * x**3 - 5 * x**4 / 2) / G
