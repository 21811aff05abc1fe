"""The steps of an embedded pair along one field, recorded as CUDA graphs."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import final

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ode_runner.compiling.captured_function import CapturedFunction
from ode_runner.compiling.recorded_function import RecordedFunction
from ode_runner.errors import CannotCompile
from ode_runner.fields.counted_field import CountedField
from ode_runner.fields.ledger import Ledger
from ode_runner.solvers.embedded import EmbeddedRungeKutta
from ode_runner.solvers.tableau import advance, explicit_step, stage_time
from ode_runner.types import State, Time

Field = Callable[..., State]  # of time, state, and the tensors given
SOME_STEP = (0.0, 0.125, 0.125)  # a clock to record with
MOST = 64  # recordings of one function: each keeps in memory all that its derivative needs


@final
class Recordings:
    """A pool of recordings of one function, as many as are in use at a time; each is made when first needed."""

    def __init__(self, make: Callable[[], CapturedFunction]) -> None:
        self._make, self._made, self._free = make, 0, list[CapturedFunction]()

    def take(self) -> CapturedFunction:
        """A recording that is not in use.

        Raises:
            CannotCompile: too many are in use, or the function cannot be recorded.
        """
        if self._free:
            return self._free.pop()
        if self._made == MOST:
            raise CannotCompile(f"a solve takes more than {MOST} steps")
        self._made += 1
        return self._make()

    def give_back(self, recording: CapturedFunction) -> None:
        """Return a recording to the pool."""
        self._free.append(recording)


@final
class CapturedSteps:
    """The functions of a step along one field, recorded with their derivatives, for states of one shape and type.

    Every function also takes the tensors given to the field.

    `clock` holds t0, t1 and their difference, which is computed before they are rounded.

    Args:
        solver: the embedded pair.
        field: the field; it does not count evaluations, because a replay does not call it.
        y0: an example of a state.
        given: the tensors that the field takes after time and state.
        fuses: whether the field is compiled into fused kernels.
    """

    def __init__(
        self, solver: EmbeddedRungeKutta, field: CountedField, y0: State, given: Sequence[Tensor], *, fuses: bool
    ) -> None:
        self.solver, self.tableau = solver, solver.tableau
        self.fusing = [field.field] if fuses else []
        self.parameters = [p for p in field.field.parameters() if p.requires_grad]
        counted = CountedField.around(field.field, Ledger(), dtype=field.dtype, attached=True)
        learned = {name: p for name, p in counted.named_parameters() if p.requires_grad}
        leaves = {name: p.detach().requires_grad_() for name, p in learned.items()}  # the same memory
        read: Field = lambda *inputs: functional_call(counted, leaves, inputs)  # noqa: E731
        state = y0.detach().clone(memory_format=torch.contiguous_format).requires_grad_()
        clock, others = state.detach().new_tensor(SOME_STEP), list(given)
        here, functions = [clock, state, *others], StepFunctions(solver, read)

        def of(function: Callable[..., list[Tensor]], examples: Sequence[Tensor], facts: int = 0) -> Recordings:
            return Recordings(
                lambda: CapturedFunction(function, examples, [*leaves.values()], facts=facts, fusing=self.fusing)
            )

        self.begin = of(functions.begin, here, facts=1)
        self.slope = of(functions.slope, here)
        stages = self.tableau.stages
        self.step = of(functions.step, [clock, state, state, *others], facts=stages)
        self.dense_step = of(functions.step, [clock, state, state, *others], facts=1)
        self.again = of(functions.again, here)
        self.dense_again = of(functions.dense_again, here)


@final
class RecordedSteps:
    """The functions of a step for solves without gradients; each is recorded once, when it is first needed.

    Args:
        solver: the embedded pair.
        read: a field of time, state and the tensors given.
        y0: an example of a state.
        given: the tensors that the field takes after time and state.
        leaves: further tensors that the field reads.
        fusing: modules that are compiled into fused kernels.
    """

    def __init__(
        self,
        solver: EmbeddedRungeKutta,
        read: Field,
        y0: State,
        given: Sequence[Tensor],
        *,
        leaves: Sequence[Tensor],
        fusing: Sequence[nn.Module] = (),
    ) -> None:
        self.solver, self.tableau = solver, solver.tableau
        self._functions, self._leaves, self._fusing = StepFunctions(solver, read), leaves, fusing
        state = y0.detach().clone(memory_format=torch.contiguous_format)
        self._state, self._clock, self._given = state, state.new_tensor(SOME_STEP), list(given)

    @cached_property
    def begin(self) -> RecordedFunction:
        return self._of(self._functions.begin, [self._clock, self._state])

    @cached_property
    def slope(self) -> RecordedFunction:
        return self._of(self._functions.slope, [self._clock, self._state])

    @cached_property
    def step(self) -> RecordedFunction:
        """A step without its stages, which are needed only for outputs within the step."""
        return self._of(self._functions.lean_step, [self._clock, self._state, self._state])

    @cached_property
    def dense_step(self) -> RecordedFunction:
        return self._of(self._functions.step, [self._clock, self._state, self._state])

    def _of(self, function: Callable[..., list[Tensor]], examples: Sequence[Tensor]) -> RecordedFunction:
        return RecordedFunction(function, [*examples, *self._given], self._leaves, fusing=self._fusing)


@final
class StepFunctions:
    """The functions that make up a pair's steps, of `clock`, states and the tensors given to the field."""

    def __init__(self, solver: EmbeddedRungeKutta, read: Field) -> None:
        self.solver, self.tableau, self.field = solver, solver.tableau, read

    def slope(self, clock: Tensor, y0: State, *given: Tensor) -> list[Tensor]:
        """f(t0, y0)."""
        return [self.field(clock[0], y0, *given)]

    def begin(self, clock: Tensor, y0: State, *given: Tensor) -> list[Tensor]:
        """f(t0, y0); norms of state, slope and its change over a first trial. `clock` holds both ends of the span."""
        f0 = self.field(clock[0], y0, *given)
        with torch.no_grad():
            d0, d1 = (self.solver.in_tolerances(y, y0, y0) for y in (y0, f0))
            small = (d0 < 1e-5) | (d1 < 1e-5)
            trial = torch.minimum(clock[2].abs() / 2, torch.where(small, 1e-6, 0.01 * d0 / d1)).copysign(clock[2])
        f1 = self.field(clock[0] + trial, y0 + trial * f0, *given)  # with grad, as all calls of fused code
        with torch.no_grad():
            return [f0, torch.stack([d0, d1, self.solver.in_tolerances(f1 - f0, y0, y0)])]

    def step(self, clock: Tensor, y0: State, f0: State, *given: Tensor) -> list[Tensor]:
        """y1; f1 if it is the pair's last stage; the stages after f0; the error in units of the tolerance."""
        y1, ks = self._stages(clock, y0, f0, given)
        last = [self.field(clock[1], y1, *given)] if self.tableau.first_same_as_last else []
        with torch.no_grad():
            difference = clock[2] * advance(torch.zeros_like(y0), 1.0, self.tableau.b_error, [*ks, *last])
            return [y1, *last, *ks[1:], self.solver.in_tolerances(difference, y0, y1)]

    def lean_step(self, clock: Tensor, y0: State, f0: State, *given: Tensor) -> list[Tensor]:
        """The results of `step` without the stages."""
        y1, *others, error = self.step(clock, y0, f0, *given)
        return [y1, *others[: self.tableau.first_same_as_last], error]

    def again(self, clock: Tensor, y0: State, *given: Tensor) -> list[Tensor]:
        """y1 of an accepted step, recomputed."""
        return [self._stages(clock, y0, self.field(clock[0], y0, *given), given)[0]]

    def dense_again(self, clock: Tensor, y0: State, *given: Tensor) -> list[Tensor]:
        """y1, f1 and the stages, which are needed for outputs within the step, recomputed."""
        y1, ks = self._stages(clock, y0, self.field(clock[0], y0, *given), given)
        return [y1, self.field(clock[1], y1, *given), *ks]

    def _stages(self, clock: Tensor, y0: State, f0: State, given: Sequence[Tensor]) -> tuple[State, list[Tensor]]:
        """y1 and the stages. Slopes are multiplied by dt first, so that each term of a sum takes one operation."""
        (t0, t1, dt), ks = clock.unbind(), [f0]

        def gain(c: float, y: State) -> State:
            t: Time = stage_time(t0, t1, c, dt=dt)
            ks.append(self.field(t, y, *given))
            return dt * ks[-1]

        y1, _ = explicit_step(self.tableau, gain, 1.0, y0, dt * f0, rows=self.tableau.stages)
        return y1, ks
