"""Takes the recorded steps of adaptive solves on a GPU without gradients."""

from collections.abc import Sequence
from dataclasses import replace
from typing import final

import torch
from torch import Tensor

from ode_runner.compiling.captured_steps import RecordedSteps
from ode_runner.compiling.stepper import compilable
from ode_runner.errors import CannotCompile
from ode_runner.field import VectorField
from ode_runner.fields.ledger import Ledger
from ode_runner.solvers.base import Solver
from ode_runner.solvers.embedded import EmbeddedRungeKutta
from ode_runner.solvers.initial_step import first_step
from ode_runner.solvers.stepper import AdaptiveStepper, StepResult
from ode_runner.types import State


@final
class RecordedStepper(AdaptiveStepper):
    """Takes the steps of one solve. Any number of solves can use the same recordings, one after another.

    Args:
        steps: the recordings.
        field: evaluated eagerly if norms overflow.
        ledger: counts the evaluations.
        given: the tensors given to the recorded field.
        dense: whether there may be outputs within steps.
    """

    def __init__(
        self, steps: RecordedSteps, field: VectorField, ledger: Ledger, given: Sequence[Tensor], *, dense: bool
    ) -> None:
        self.steps, self.field, self.ledger, self.dense = steps, field, ledger, dense
        self.given = [z.detach() for z in given]

    def begin(self, t0: float, y0: State, *, span: float) -> tuple[State, float]:
        self.ledger.tally.evaluations += 2
        f0, norms = self.steps.begin(clock_of(t0, t0 + span, y0), y0, *self.given)
        return f0, first_size(self.steps.solver, self.field, t0, y0, f0, norms, span=span)

    def slope(self, t: float, y: State) -> State:
        self.ledger.tally.evaluations += 1
        [f] = self.steps.slope(clock_of(t, t, y), y, *self.given)
        return f

    def step(self, t0: float, t1: float, y0: State, f0: State | None) -> StepResult:
        assert f0 is not None, "a pair knows the slope that a step begins with"
        tableau = self.steps.tableau
        self.ledger.tally.evaluations += len(tableau.b) - 1
        take = self.steps.dense_step if self.dense else self.steps.step
        y1, *rest, error = take(clock_of(t0, t1, y0), y0, f0, *self.given)
        f1 = rest.pop(0) if tableau.first_same_as_last else None
        return StepResult(y1, [f0, *rest], f1, float(error))


def stepping_recorded(
    steps: RecordedSteps, ledger: Ledger, given: Sequence[Tensor], *, dense: bool
) -> EmbeddedRungeKutta:
    """The solver of the steps, set to take recorded steps; `dense`: there may be outputs within steps."""
    return replace(steps.solver, stepping=lambda field: RecordedStepper(steps, field, ledger, given, dense=dense))


def pair_of(solver: Solver) -> EmbeddedRungeKutta:
    """The solver, if its steps can be recorded one by one.

    Raises:
        CannotCompile: they cannot be.
    """
    pair = compilable(solver)
    if not isinstance(pair, EmbeddedRungeKutta):
        raise CannotCompile("of the solvers of fixed step whole passes are recorded, and no single steps")
    return pair


def first_size(
    solver: EmbeddedRungeKutta, field: VectorField, t0: float, y0: State, f0: State, norms: Tensor, *, span: float
) -> float:
    """The size of the first step, from the norms that `StepFunctions.begin` has computed."""
    d0, d1, slope_change = norms.tolist()
    dt = first_step(d0, d1, lambda _: slope_change, order=solver.error_order, span=span)
    if not dt and bool(torch.isfinite(f0).all()):  # squares have overflowed
        return solver.first_size(field, t0, y0, f0, span=span)
    return dt


def clock_of(t0: float, t1: float, y: State) -> Tensor:
    """(3,): t0, t1 and their difference, in pinned memory on the CPU, from which a replay copies it."""
    return torch.tensor([t0, t1, t1 - t0], dtype=y.dtype, pin_memory=y.is_cuda)
