"""A solver and a gradient mode, bound: all that a model knows of numerics."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from ode_runner.counted_field import CountedField
from ode_runner.field import Ledger, VectorField
from ode_runner.gradients.base import CompiledSolve, GradientMode
from ode_runner.gradients.replay import redrawable
from ode_runner.gradients.times import solve_between
from ode_runner.observation import Observations
from ode_runner.problem import demand_given, demand_solvable, in_joint_precision
from ode_runner.solvers.base import Solver
from ode_runner.types import State, Times, Trajectory


@dataclass(frozen=True, kw_only=True)
class Integrator:
    """Solves for a model, and enters evaluations and steps in the ledger.

    `field_dtype` is the lower precision in which the field may be evaluated; state and time keep their own.
    """

    solver: Solver
    gradient: GradientMode
    field_dtype: torch.dtype | None = None
    ledger: Ledger = field(default_factory=Ledger)
    _compiled: dict[tuple[VectorField, torch.Size, torch.dtype], CompiledSolve] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _observations: Observations = field(default_factory=Observations, init=False, repr=False, compare=False)

    def compile(self, field: VectorField, y0: State) -> CompiledSolve:
        """From now on, solves of this field that are to be differentiated and whose states are like `y0` are compiled.

        Raises:
            CannotCompile: they cannot be.
        """
        kind = (field, y0.shape, y0.dtype)
        if kind not in self._compiled:
            self._compiled[kind] = self.gradient.compiled(self.solver, field, y0)
        return self._compiled[kind]

    def __call__(self, field: VectorField, y0: State, ts: Times, *, given: Sequence[Tensor] = ()) -> Trajectory:
        """States at `ts`, beginning with `y0` itself; differentiable by `ts` too, where that asks for it.

        `given` are tensors (batch, ...) that the field takes after time and state, such as a condition: every mode
        differentiates by them as by the initial state. Those of whole numbers are handed on as they are.

        Raises:
            RefusedInput: times, state or what is given are none that can be solved for.
            SolverFailed: the end of the times was not reached.
        """
        demand_solvable(y0, ts)
        demand_given(given, y0)
        self.solver.demand_state(y0)
        with torch.autocast(y0.device.type, enabled=False):
            y0 = in_joint_precision(y0, ts)
            counted = self._counted(field, [z.to(y0.dtype) if z.is_floating_point() else z for z in given])
            if not y0.numel():
                return _of_nothing(counted, y0, ts)
            moving = ts.requires_grad and torch.is_grad_enabled()
            compiled = None if moving or given else self._compiled_for(field, y0)
            solve = partial(compiled or partial(self.gradient.solve, self.solver), counted)
            with nullcontext() if compiled else self._observed(field, counted):
                solution = solve_between(solve, counted, y0, ts) if moving else solve(y0, ts)
        self.ledger.tally.enter(solution.accepted, solution.rejected, solution.smallest_step)
        if solution.each is not None:
            self.ledger.enter(solution.each)
        return solution.ys

    def _counted(self, field: VectorField, given: Sequence[Tensor]) -> CountedField:
        attached = self.gradient.through_autograd
        return CountedField.around(field, self.ledger, dtype=self.field_dtype, given=given, attached=attached)

    @contextmanager
    def _observed(self, field: VectorField, counted: CountedField) -> Iterator[None]:
        """Refuses what a field does inside that this mode cannot differentiate."""
        if self.gradient.through_autograd or not torch.is_grad_enabled():
            yield
            return
        mode = type(self.gradient).__name__.lower()
        redraws = self.gradient.redraws and redrawable(self.solver)
        observation = counted.observer = self._observations.of(field, counted, mode=mode, redraws=redraws)
        try:
            yield
        finally:
            counted.observer = None
        self._observations.note(field, observation)

    def _compiled_for(self, field: VectorField, y0: State) -> CompiledSolve | None:
        return self._compiled.get((field, y0.shape, y0.dtype)) if torch.is_grad_enabled() else None


def _of_nothing(field: CountedField, y0: State, ts: Times) -> Trajectory:
    """States without elements, as an empty batch has them; one evaluation, so that parameters have a gradient of zero.

    No solver is asked: the mean over no elements, which step control would go by, is not a number.
    """
    moved = y0 + field(ts[0].to(y0.dtype), y0)
    return torch.stack([y0, *[moved] * (len(ts) - 1)])
