"""The compiled functions of the steps of one method along one equation."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.func import vjp

from ode_runner.compiling.c_code.graph import Function, compile_graph
from ode_runner.compiling.packing import Packing
from ode_runner.compiling.values import Equation
from ode_runner.field import VectorField
from ode_runner.fields.counted_field import CountedField
from ode_runner.fields.ledger import Tally
from ode_runner.solvers.embedded import AdaptiveRungeKutta
from ode_runner.solvers.one_step import AcceptedStep, RungeKutta
from ode_runner.solvers.tableau import advance, explicit_step, stage_time
from ode_runner.types import State, Time

OF_COMPILED_STEPS = (
    "a second derivative of compiled steps was asked for (create_graph=True), and they have none. "
    "Solve without compiling, with gradient=backprop."
)


class Packed:
    """The arguments of compiled functions of a state and of values, for states of one shape and type.

    `theta` has the packed values that the equation depends on, such as parameters. Gradients are taken with respect to
    the first `learned` of these, and are accumulated in `sums`.
    """

    def __init__(self, y0: State, values: Sequence[Tensor], *, learned: int) -> None:
        self.packing, self.learned = Packing(values), Packing(values[:learned])
        self.y0 = y0.detach().clone(memory_format=torch.contiguous_format)
        self.theta = self.packing.pack([value.detach() for value in values])

    def noise(self) -> Tensor:
        """An example of a state."""
        with torch.random.fork_rng(devices=[]):
            return torch.randn_like(self.y0)

    def sums(self) -> Tensor:
        """An example of the sums of derivatives."""
        return self.theta[: sum(self.learned.sizes)] / 2

    def field_vjp(
        self, step: Callable[..., Any], y0: State, cotangents: Any, sums: Tensor, theta: Tensor
    ) -> list[Tensor]:
        """dL/dy0, and `sums` plus the derivatives with respect to the values that are learned."""
        values, count = self.packing.unpack(theta), len(self.learned.sizes)
        fixed = values[count:]
        pull = vjp(lambda y0, *learned: step(y0, [*learned, *fixed]), y0, *values[:count])[1]
        dy0, *parts = pull(cotangents)
        return [dy0, sums + self.learned.pack(parts)]


class CompiledSteps(Packed):
    """The functions that make up steps, each compiled when it is first needed.

    `clock` has t0, t1 and their difference, and `curve` (5, batch, *state) the coefficients of the dense output, by
    powers of the fraction of the step.

    Raises:
        CannotCompile: this equation cannot be compiled.
    """

    def __init__(
        self, solver: RungeKutta, equation: Equation, y0: State, values: Sequence[Tensor], *, learned: int
    ) -> None:
        super().__init__(y0, values, learned=learned)
        self.solver, self.equation, self.tableau = solver, equation, solver.tableau
        self.clock = y0.new_tensor([0.0, 0.125, 0.125])
        self.products_each = 0  # Jacobian products per evaluation, if constant

    def around(self, field: CountedField, y0: State) -> CountedField:
        """The field in the form of these steps (perhaps packed), at the state `y0`, for eager solves."""
        del y0
        return field

    def products(self, accepted_steps: Sequence[AcceptedStep], *, back: bool) -> int:
        """The number of products with the field's Jacobian in a solve along these steps; `back`: its backward pass."""
        del accepted_steps, back
        return 0

    def enter_backward(self, tally: Tally, accepted_steps: Sequence[AcceptedStep]) -> None:
        """Add to the ledger what a backward pass takes, which recomputes the steps."""
        tally.evaluations += sum(self.tableau.stages + interval.dense for interval in accepted_steps)
        tally.products += self.products(accepted_steps, back=True)
        tally.accepted += len(accepted_steps)

    @property
    def order(self) -> int:
        """The order with which a pair chooses its first step."""
        return self.pair.error_order

    def first_step(self, field: VectorField, t0: float, y0: State, f0: State, *, span: float) -> float:
        """The size of a pair's first step, with eager norms that do not overflow; takes one evaluation."""
        return self.pair.first_size(field, t0, y0, f0, span=span)

    def length(self, clock: Tensor) -> Tensor:
        """The length of a step, or of each sample's step, in a shape that broadcasts with states."""
        return clock[2]

    def in_tolerances(self, difference: Tensor, y0: State, y1: State) -> Tensor:
        """The norm of a difference between solutions in units of the tolerance; see `AdaptiveRungeKutta`."""
        return self.pair.in_tolerances(difference, y0, y1)

    @property
    def pair(self) -> AdaptiveRungeKutta:
        """The solver, which must be adaptive."""
        assert isinstance(self.solver, AdaptiveRungeKutta)
        return self.solver

    @cached_property
    def slope(self) -> Function:
        """(t, y, theta) to f(t, y)."""
        return compile_graph(*self.piece("slope"))

    @cached_property
    def begin(self) -> Function:
        """(t0, y0, theta) to f0, and the norms of y0 and f0 in units of the tolerance."""
        return compile_graph(*self.piece("begin"))

    @cached_property
    def slope_change(self) -> Function:
        """(clock, y0, f0, theta) to the norm of the slope's change over an explicit Euler step."""
        return compile_graph(*self.piece("slope_change"))

    @cached_property
    def step(self) -> Function:
        """(clock, y0, f0, theta) to y1 and the other results of `_step`."""
        return compile_graph(*self.piece("step"))

    @cached_property
    def fresh_step(self) -> Function:
        """`step` without f0, which it evaluates."""
        return compile_graph(*self.piece("fresh_step"))

    @cached_property
    def step_vjp(self) -> Function:
        """(clock, y0, dL/dy1, sums, theta) to dL/dy0, and `sums` plus the step's part. Recomputes the step."""
        return compile_graph(*self.piece("step_vjp"))

    @cached_property
    def dense_step_vjp(self) -> Function:
        """(clock, y0, dL/dy1, dL/dcurve, sums, theta) to the results of `step_vjp`, for a step with outputs within."""
        return compile_graph(*self.piece("dense_step_vjp"))

    def piece(self, name: str) -> tuple[Function, list[Tensor]]:
        """One of the functions above, not compiled, and examples of its arguments."""
        clock, y0, sums = self.clock, self.y0, self.sums()
        t, state, curve = clock[1].clone(), self.noise(), torch.stack([self.noise() for _ in range(5)])
        pieces: dict[str, tuple[Function, list[Tensor]]] = {
            "slope": (self._slope, [t, y0]),
            "begin": (self._begin, [t, y0]),
            "slope_change": (self._slope_change, [clock, y0, state]),
            "step": (self._step, [clock, y0, state]),
            "fresh_step": (self._fresh_step, [clock, y0]),
            "step_vjp": (self._step_vjp, [clock, y0, state, sums]),
            "dense_step_vjp": (self._dense_step_vjp, [clock, y0, state, curve, sums]),
        }
        function, examples = pieces[name]
        return function, [*examples, self.theta]

    def _slope(self, t: Time, y: State, theta: Tensor) -> list[Tensor]:
        return [self.equation(t, y, self.packing.unpack(theta))]

    def _begin(self, t0: Time, y0: State, theta: Tensor) -> list[Tensor]:
        [f0] = self._slope(t0, y0, theta)
        return [f0, torch.stack([self.in_tolerances(y, y0, y0) for y in (y0, f0)])]

    def _slope_change(self, clock: Tensor, y0: State, f0: State, theta: Tensor) -> list[Tensor]:
        [f1] = self._slope(clock[1], y0 + self.length(clock) * f0, theta)
        return [self.in_tolerances(f1 - f0, y0, y0)]

    def _fresh_step(self, clock: Tensor, y0: State, theta: Tensor) -> list[Tensor]:
        [f0] = self._slope(clock[0], y0, theta)
        return self._step(clock, y0, f0, theta)

    def _step(self, clock: Tensor, y0: State, f0: State, theta: Tensor) -> list[Tensor]:
        """y1; for a pair, the error in units of the tolerance; f1 and the curve if f1 is a stage, else the stages."""
        tableau, values = self.tableau, self.packing.unpack(theta)
        y1, ks = self._stages(clock, y0, f0, values, rows=len(tableau.b))
        judged = []
        if isinstance(self.solver, AdaptiveRungeKutta):
            difference = advance(torch.zeros_like(y0), self.length(clock), self.solver.tableau.b_error, ks)
            judged = [self.in_tolerances(difference, y0, y1)]
        if tableau.first_same_as_last:
            return [y1, *judged, ks[-1], self._curve(clock, y0, ks)]
        return [y1, *judged, torch.stack(ks)]

    def _step_vjp(self, clock: Tensor, y0: State, dy1: Tensor, sums: Tensor, theta: Tensor) -> list[Tensor]:
        def step(y0: State, values: Sequence[Tensor]) -> State:
            return self.again(clock, y0, values)[0]

        return self.field_vjp(step, y0, dy1, sums, theta)

    def _dense_step_vjp(
        self, clock: Tensor, y0: State, dy1: Tensor, dcurve: Tensor, sums: Tensor, theta: Tensor
    ) -> list[Tensor]:
        def step(y0: State, values: Sequence[Tensor]) -> tuple[State, Tensor]:
            y1, ks = self.again(clock, y0, values)
            return y1, self._curve(clock, y0, [*ks, self.equation(clock[1], y1, values)])

        return self.field_vjp(step, y0, (dy1, dcurve), sums, theta)

    def again(self, clock: Tensor, y0: State, values: Sequence[Tensor]) -> tuple[State, list[Tensor]]:
        """A step from y0, recomputed, with the derivatives at its stages."""
        f0 = self.equation(clock[0], y0, values)
        return self._stages(clock, y0, f0, values, rows=self.tableau.stages)

    def _stages(
        self, clock: Tensor, y0: State, f0: State, values: Sequence[Tensor], *, rows: int
    ) -> tuple[State, list[Tensor]]:
        t0, t1, dt = clock.unbind()

        def slope(c: float, y: State) -> State:
            return self.equation(stage_time(t0, t1, c, dt=dt), y, values)

        return explicit_step(self.tableau, slope, self.length(clock), y0, f0, rows=rows)

    def _curve(self, clock: Tensor, y0: State, ks: Sequence[Tensor]) -> Tensor:
        powers = zip(*self.tableau.dense.quartic, strict=True)
        return torch.stack(
            [y0, *(advance(torch.zeros_like(y0), self.length(clock), weights, ks) for weights in powers)]
        )
