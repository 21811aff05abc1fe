"""Splitting methods for separable fields."""

import abc
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from ode_runner.devices.transfer import read_times
from ode_runner.errors import IncompatibleChoice
from ode_runner.field import VectorField
from ode_runner.fields.structured_field import SeparableField
from ode_runner.problem import Solution
from ode_runner.solvers import quadrature
from ode_runner.solvers.one_step import AcceptedStep, Step, StepwiseSolver
from ode_runner.solvers.quadrature import Node
from ode_runner.solvers.reversible import Carried, ReversibleSolver
from ode_runner.solvers.tableau import time_tensor
from ode_runner.types import State, Times


@dataclass(frozen=True, kw_only=True)
class SplittingSolver(ReversibleSolver, StepwiseSolver, abc.ABC):
    """A composition of leapfrog substeps: half a kick of p, a drift of q, half a kick of p.

    Symplectic if the field is Hamiltonian, so that the energy error stays bounded with equal steps. Symmetric: a step
    is reversed by the same formulas with its ends swapped. It carries y and the last kick, with which the next step
    begins: half an evaluation to begin, and one per substep. The kick follows from y, so that a step can also be
    recomputed from y, for half an evaluation more.

    Hairer, Lubich, Wanner. Geometric Numerical Integration. Springer 2006, I.1.4, II.4 and VI.3.
    """

    kind: ClassVar[str] = "of fixed step and for separable fields"
    packs: ClassVar[bool] = False
    fields: ClassVar[type] = SeparableField
    fields_in_words: ClassVar[str] = "a separable field, dq/dt = g(t, p) and dp/dt = h(t, q)"
    leaps: ClassVar[tuple[float, ...]]  # fractions of the step, symmetric, with sum 1

    def begin(self, field: VectorField, t0: float, y0: State) -> Carried:
        q, _ = y0.chunk(2, dim=1)
        return y0, _separable(field).kick(time_tensor(t0, y0), q)

    def reversible_step(self, field: VectorField, t0: float, t1: float, carried: Carried) -> Carried:
        halves, (y, kick) = _separable(field), carried
        q, p = y.chunk(2, dim=1)
        for start, end in pairwise(self._substep_times(t0, t1)):
            q, p, kick, _ = _leap(halves, start, end, q, p, kick)
        return torch.cat([q, p], dim=1), kick

    def gaining_step(self, field: VectorField, t0: float, t1: float, carried: Carried) -> tuple[Carried, Tensor]:
        """`reversible_step` and the increment of integrals, by the midpoints of the leapfrog substeps.

        The integrals are a third flow of the composition, so that order and symmetry stay the same. This takes no
        evaluation: at a midpoint, the field's derivative is the drift and the mean of both kicks.
        """
        halves, (y, kick), gain = _separable(field), carried, quadrature.begin(field, carried[0])
        q, p = y.chunk(2, dim=1)
        for start, end in pairwise(self._substep_times(t0, t1)):
            before, kicked = q, kick
            q, p, kick, (half, drift) = _leap(halves, start, end, q, p, kick)
            middle = torch.cat([(before + q) / 2, half], dim=1)
            node = Node((start + end) / 2, middle, torch.cat([drift, (kicked + kick) / 2], dim=1))
            gain = gain + quadrature.gains(field, [node], end - start, [[1.0]])[0]
        return (torch.cat([q, p], dim=1), kick), gain

    def distance(self, dt: float, before: Carried, after: Carried) -> None:
        """None, because the kick follows from the state."""

    def reverse_step(self, field: VectorField, t0: float, t1: float, carried: Carried) -> Carried:
        return self.reversible_step(field, t1, t0, carried)

    def solve(self, field: VectorField, y0: State, ts: Times) -> Solution:
        return self.solve_noting_steps(field, y0, ts)[0]

    def steps(self, field: VectorField, y0: State, ts: Times) -> Iterator[Step]:
        if len(ts) == 1:
            return
        carried = self.begin(field, read_times(ts)[0], y0)
        for grid in self.grids(ts):
            for t0, t1 in pairwise(grid):
                y0, (carried, gain) = carried[0], self.stride(field, t0, t1, carried)
                due = [t1] if t1 == grid[-1] else []
                yield Step(t0=t0, t1=t1, y0=y0, y1=carried[0], ks=[], due=due, gain=gain)

    def outputs(self, step: Step) -> list[State]:
        return [step.y1 for _ in step.due]

    def gains(self, field: VectorField, step: Step) -> list[Tensor]:
        return [] if step.gain is None else [step.gain for _ in (step.t1, *step.due)]

    def recompute(self, field: VectorField, interval: AcceptedStep, y0: State) -> Step:
        t0, t1 = interval.t0, interval.t1
        (y1, _), gain = self.stride(field, t0, t1, self.begin(field, t0, y0))
        return Step(t0=t0, t1=t1, y0=y0, y1=y1, ks=[], due=interval.due, gain=gain)

    def stride(self, field: VectorField, t0: float, t1: float, carried: Carried) -> tuple[Carried, Tensor | None]:
        if quadrature.counted(field) is None:
            return self.reversible_step(field, t0, t1, carried), None
        return self.gaining_step(field, t0, t1, carried)

    def _substep_times(self, t0: float, t1: float) -> list[float]:
        reached = [sum(self.leaps[:i]) for i in range(1, len(self.leaps))]
        return [t0, *(t0 + part * (t1 - t0) for part in reached), t1]


def _leap(
    field: SeparableField, t0: float, t1: float, q: State, p: State, kick: Tensor
) -> tuple[State, State, Tensor, tuple[State, Tensor]]:
    """Velocity Verlet: q, p and the kick at t1, and p and the drift in the middle."""
    dt = t1 - t0
    half = torch.add(p, kick, alpha=dt / 2)
    drift = field.drift(time_tensor((t0 + t1) / 2, half), half)
    q = torch.add(q, drift, alpha=dt)
    kick = field.kick(time_tensor(t1, q), q)
    return q, torch.add(half, kick, alpha=dt / 2), kick, (half, drift)


def _separable(field: VectorField) -> SeparableField:
    if not isinstance(field, SeparableField):
        raise IncompatibleChoice(f"a splitting solver needs {SplittingSolver.fields_in_words}. Use solver=rk4.")
    return field
