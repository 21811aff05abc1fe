"""The steps of one method along one equation, compiled."""

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property

import torch
from torch import Tensor
from torch.func import vjp

from ode_runner.compiling.graph import Function, compile_graph
from ode_runner.compiling.packing import Packing
from ode_runner.solvers.embedded import AdaptiveRungeKutta
from ode_runner.solvers.one_step import ExplicitOneStepSolver
from ode_runner.types import State, Time

Equation = Callable[[Time, State, Sequence[Tensor]], State]  # dy/dt of t, y and the parameters


class CompiledSteps:
    """For states of one shape and type.

    `slope(t, y, theta)` is the right-hand side, where `theta` is the packed parameters, and `forth(clock, y0, f0,
    theta)` a step from y0, whose slope is f0: y1, its derivatives (stage, batch, *state) and, of a pair, the error in
    units of the tolerance. `clock` holds t0, t1 and their difference.

    Both ways back take a step anew, and pull a + dy1, dy0 and dks, which are dL/dy1 in two parts, dL/dy0 and
    dL/d(derivatives), back to dL/dy0 and, added to `sums`, dL/dtheta: `back(clock, y0, a, dy1, sums, theta)` where no
    output lies within the step, and `back_within(clock, y0, dy0, a, dy1, dks, sums, theta)`, whose derivatives
    end with f(t1, y1).

    Raises:
        CannotCompile: this equation cannot be compiled.
    """

    def __init__(
        self, solver: ExplicitOneStepSolver, equation: Equation, y0: State, parameters: Sequence[Tensor]
    ) -> None:
        self.solver, self.equation, self.tableau = solver, equation, solver.tableau
        self.packing = Packing(parameters)
        self.y0, self.theta = y0.detach().clone(), self.packing.pack([p.detach() for p in parameters])
        self.slope = compile_graph(self._slope, [y0.new_tensor(0.1), self.y0, self.theta])
        self.forth = compile_graph(self._forth, [self._clock(), self.y0, self._noise(), self.theta])

    @property
    def evaluations(self) -> int:
        """Of the equation in a step forth."""
        return len(self.tableau.b) - 1

    @cached_property
    def back(self) -> Function:
        a, dy1, sums = self._noise(), self._noise(), self._noise(self.theta)
        return compile_graph(self._back, [self._clock(), self.y0, a, dy1, sums, self.theta])

    @cached_property
    def back_within(self) -> Function:
        (dy0, a, dy1), sums = (self._noise() for _ in range(3)), self._noise(self.theta)
        dks = torch.stack([self._noise() for _ in range(self.tableau.stages + 1)])
        return compile_graph(self._back_within, [self._clock(), self.y0, dy0, a, dy1, dks, sums, self.theta])

    def _clock(self) -> Tensor:
        return self.y0.new_tensor([0.0, 0.125, 0.125])

    def _noise(self, like: Tensor | None = None) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            return torch.randn_like(self.y0 if like is None else like)

    def _slope(self, t: Time, y: State, theta: Tensor) -> list[Tensor]:
        return [self.equation(t, y, self.packing.unpack(theta))]

    def _forth(self, clock: Tensor, y0: State, f0: State, theta: Tensor) -> list[Tensor]:
        y1, ks = self._step(clock, y0, f0, self.packing.unpack(theta), rows=len(self.tableau.b))
        if not isinstance(self.solver, AdaptiveRungeKutta):
            return [y1, torch.stack(ks)]
        difference = _advance(torch.zeros_like(y0), clock[2], self.solver.tableau.b_error, ks)
        return [y1, torch.stack(ks), self.solver.in_tolerances(difference, y0, y1)]

    def _back(self, clock: Tensor, y0: State, a: Tensor, dy1: Tensor, sums: Tensor, theta: Tensor) -> list[Tensor]:
        def step(y0: State, *parameters: Tensor) -> State:
            f0 = self.equation(clock[0], y0, parameters)
            return self._step(clock, y0, f0, parameters, rows=self.tableau.stages)[0]

        dy0, *parts = vjp(step, y0, *self.packing.unpack(theta))[1](a + dy1)
        return [dy0, sums + self.packing.pack(parts)]

    def _back_within(
        self,
        clock: Tensor,
        y0: State,
        dy0: Tensor,
        a: Tensor,
        dy1: Tensor,
        dks: Tensor,
        sums: Tensor,
        theta: Tensor,
    ) -> list[Tensor]:
        def step(y0: State, *parameters: Tensor) -> tuple[State, Tensor]:
            f0 = self.equation(clock[0], y0, parameters)
            y1, ks = self._step(clock, y0, f0, parameters, rows=self.tableau.stages)
            return y1, torch.stack([*ks, self.equation(clock[1], y1, parameters)])

        through, *parts = vjp(step, y0, *self.packing.unpack(theta))[1]((a + dy1, dks))
        return [dy0 + through, sums + self.packing.pack(parts)]

    def _step(
        self, clock: Tensor, y0: State, f0: State, parameters: Sequence[Tensor], *, rows: int
    ) -> tuple[State, list[Tensor]]:
        (t0, t1, dt), ks = clock.unbind(), [f0]
        for c, row in zip(self.tableau.c[1:rows], self.tableau.a[1:rows], strict=True):
            t = t1 if c > 1 - 1e-9 else t0 + c * dt  # never beyond the step by rounding
            ks.append(self.equation(t, _advance(y0, dt, row, ks), parameters))
        return _advance(y0, dt, self.tableau.b[:rows], ks), ks


def _advance(y0: State, dt: Tensor, weights: Iterable[float], ks: Iterable[Tensor]) -> State:
    """y0 + dt * weights @ ks for a `dt` that is an input."""
    y = y0
    for weight, k in zip(weights, ks, strict=True):
        if weight:
            y = y + (dt * weight) * k
    return y
