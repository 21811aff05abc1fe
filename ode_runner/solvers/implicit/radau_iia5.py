"""The Radau IIA method of order 5."""

from dataclasses import dataclass, field, replace
from typing import ClassVar, final

import torch
from torch import Tensor

from ode_runner.field import VectorField
from ode_runner.solvers.implicit.implicit import AdaptiveImplicitSolver, Begin
from ode_runner.solvers.implicit.newton import Equations, Newton
from ode_runner.solvers.one_step import AcceptedStep, Step
from ode_runner.solvers.quadrature import Node
from ode_runner.solvers.tableau import EmbeddedTableau, advance, stage_time, time_tensor
from ode_runner.types import State

S = 6**0.5
C = ((4 - S) / 10, (4 + S) / 10, 1.0)
A = (
    ((88 - 7 * S) / 360, (296 - 169 * S) / 1800, (-2 + 3 * S) / 225),
    ((296 + 169 * S) / 1800, (88 + 7 * S) / 360, (-2 - 3 * S) / 225),
    ((16 - S) / 36, (16 + S) / 36, 1 / 9),
)
G = 1 / (3 + 3 ** (2 / 3) - 3 ** (1 / 3))  # the inverse of A's eigenvalues: the real one of A itself, 0.2749
E = tuple(G / 3 * weight for weight in (-13 - 7 * S, -13 + 7 * S, -1.0))  # of the stages' increments, in the error
ERROR = tuple(sum(E[i] * A[i][j] for i in range(3)) for j in range(3))


@final
@dataclass(frozen=True, kw_only=True)
class RadauIIA5(AdaptiveImplicitSolver):
    """Order 5, L-stable and stiffly accurate: three stages, which are one system of three times the state's size.

    The error estimate is of order 3 and uses f(t0, y0) besides the stages. It is multiplied by (I - dt g df/dy)^-1, so
    that stiff components do not shorten the steps. Dense output is a quartic, so that outputs are of order 5, too: the
    collocation polynomial with a correction of its slope at t0. For the correction, a step with outputs inside solves a
    fourth stage, whose distance from y0 is the error estimate. The correction of an output is at most a quarter of that
    distance, so that the quartic stays smooth for stiff fields. The correction is our own.

    Hairer, Wanner. Solving Ordinary Differential Equations II. Springer 1996, IV.8.
    """

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
        """y(t1), and the derivatives f0 and those of the stages."""
        dt, known, newton = t1 - t0, torch.stack([y0] * 3), self.newton(field)
        begin, times = Begin(t0, y0, f0), [stage_time(t0, t1, c) for c in C]
        alone = self.exactly or self.recorded(newton, begin, known)  # a step must be reproducible from y0 alone
        guess = known if alone else self._continued(newton, times, begin)
        equations = Equations(
            ts=[time_tensor(t, y0) for t in times], known=known, weights=[[dt * a for a in row] for row in A]
        )
        stages = self.stages(newton, equations, guess, begin=begin)
        ks = torch.tensordot(known.new_tensor(A).inverse() / dt, stages - known, dims=1)  # f, without its rounding
        y1, of_stages = stages[2].detach(), ks.detach().unbind()
        newton.attempt = Step(t0=t0, t1=t1, due=[], y0=y0.detach(), y1=y1, ks=[f0.detach(), *of_stages])
        return stages[2], [f0, *ks]

    def recompute(self, field: VectorField, interval: AcceptedStep, y0: State) -> Step:
        if interval.t0 == interval.t1:  # a step divides by its length
            return Step(t0=interval.t0, t1=interval.t1, due=interval.due, y0=y0, y1=y0, ks=[])
        return super().recompute(field, interval, y0)

    def _continued(self, newton: Newton, times: list[float], begin: Begin) -> Tensor:
        """An initial guess of the stages by the previous step's polynomial, or y0 if there is none."""
        if newton.attempt is not None and newton.attempt.t1 == begin.t0:
            newton.before = newton.attempt
        before = newton.before
        if before is None or before.t1 != begin.t0:
            return torch.stack([begin.y0] * len(times))
        dt = before.t1 - before.t0
        return torch.stack([advance(before.y0, dt, collocation(before.fraction(t)), before.ks[1:]) for t in times])

    def estimate(self, field: VectorField, t0: float, t1: float, y0: State, ks: list[Tensor]) -> Tensor:
        difference = self.difference(y0, t1 - t0, ks)
        return self.newton(field).filtered(difference, (t1 - t0) * G, begin=(time_tensor(t0, y0), y0.detach()))

    def detailed(self, field: VectorField, step: Step) -> Step:
        """The step with (z - y0) / dt, where z = y0 + dt (g f(t0, z) + error weights @ ks) is the fourth stage.

        It is 0 if Newton's method fails, which leaves the collocation polynomial.
        """
        if step.inner:
            return step
        y0, dt = step.y0, step.t1 - step.t0
        known = advance(y0, dt, ERROR, step.ks[1:])
        equation = Equations(ts=[time_tensor(step.t0, y0)], known=known[None], weights=[[dt * G]])
        z = self.stages(self.newton(field), equation, y0[None], begin=Begin(step.t0, y0, step.ks[0]))[0]
        return replace(step, inner=[((z if torch.isfinite(z).all() else y0) - y0) / dt])

    def nodes(self, step: Step) -> list[Node]:
        """The stages, and the fourth one if the step has it."""
        nodes = super().nodes(replace(step, f1=None, inner=()))
        for slope in step.inner:  # z = y0 + dt * slope
            z = advance(step.y0, step.t1 - step.t0, [1.0], [slope])
            nodes.append(Node(step.t0, z, advance(slope, -1.0, ERROR, step.ks[1:]) / G))
        return nodes

    def weights(self, step: Step, t: float) -> list[float]:
        if t == step.t1:
            return [*self.tableau.b, *[0.0] * len(step.inner)]
        x = step.fraction(t)
        bent = bending(x)
        return [0.0, *(weight + bent * part for weight, part in zip(collocation(x), ERROR, strict=True)), bent * G]

    def outputs(self, step: Step) -> list[State]:
        """States at the output times due, by the corrected collocation polynomial."""
        return [step.y1 if t == step.t1 else self._within(step, t) for t in step.due]

    def _within(self, step: Step, t: float) -> State:
        x = step.fraction(t)
        return advance(step.y0, step.t1 - step.t0, [*collocation(x), bending(x)], [*step.ks[1:], *step.inner])


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
