"""A field whose steps are compiled."""

from functools import partial

import torch
from torch import Tensor
from torch.func import functional_call

from ode_runner.compiling.steps import CompiledSteps, Equation
from ode_runner.counted_field import CountedField
from ode_runner.errors import CannotCompile
from ode_runner.field import VectorField
from ode_runner.solvers.base import Solver
from ode_runner.solvers.embedded import EmbeddedRungeKutta
from ode_runner.solvers.initial_step import first_step
from ode_runner.solvers.one_step import ExplicitRungeKutta, Stepper, StepResult
from ode_runner.solvers.runge_kutta import FixedStepRungeKutta
from ode_runner.solvers.tableau import time_tensor
from ode_runner.types import State, Time


class CompiledField(Stepper):
    """A counted field whose slopes and steps are compiled; a step counts as the evaluations that it is made of."""

    def __init__(self, field: CountedField, steps: CompiledSteps, theta: Tensor) -> None:
        super().__init__(field.field, field.ledger)
        self.steps, self.theta = steps, theta

    def forward(self, t: Time, y: State, *given: Tensor) -> State:
        del given  # nothing is, to a field whose steps are compiled
        self.ledger.tally.evaluations += 1
        [dy] = self.steps.slope(t, y, self.theta)
        return dy

    def begin(self, t0: float, y0: State, *, span: float) -> tuple[State, float]:
        steps, tally = self.steps, self.ledger.tally
        f0, norms = steps.begin(time_tensor(t0, y0), y0, self.theta)

        def bend(dt: float) -> float:
            tally.evaluations += 1
            return float(steps.bend(y0.new_tensor([t0, t0 + dt, dt]), y0, f0, self.theta)[0])

        tally.evaluations += 1
        d0, d1 = norms.tolist()
        dt = first_step(d0, d1, bend, order=steps.order, span=span)
        if not dt and bool(torch.isfinite(f0).all()):  # squares have overflowed
            dt = steps.first_step(self, t0, y0, f0, span=span)
        return f0, dt

    def take(self, t0: float, t1: float, y0: State, f0: State | None) -> StepResult:
        steps, clock = self.steps, y0.new_tensor([t0, t1, t1 - t0])  # the difference is taken before it is rounded
        found = (
            steps.forth_afresh(clock, y0, self.theta)
            if f0 is None
            else steps.reversible_step(clock, y0, f0, self.theta)
        )
        self.ledger.tally.evaluations += len(steps.tableau.b) - (f0 is not None)
        if steps.tableau.first_same_as_last:
            y1, error, f1, curve = found
            return StepResult(y1, [], f1, float(error), curve)
        y1, *judged, ks = found
        return StepResult(y1, list(ks.unbind()), None, float(judged[0]) if judged else 0.0)


def compilable(solver: Solver) -> ExplicitRungeKutta:
    """The solver, if its steps can be compiled.

    Raises:
        CannotCompile: no.
    """
    if not isinstance(solver, FixedStepRungeKutta | EmbeddedRungeKutta):
        raise CannotCompile(f"only an explicit Runge-Kutta solver's steps can be compiled, and this is {solver.kind}")
    if type(solver).step is not ExplicitRungeKutta.step:
        raise CannotCompile("this solver takes its steps in a way of its own")
    if solver.tableau.places:
        raise CannotCompile("outputs within a step of this method take evaluations of their own")
    if isinstance(solver, EmbeddedRungeKutta) and solver.per_sample:
        raise CannotCompile("samples that step on their own make batches of any size")
    return solver


def steps_of(solver: Solver, field: VectorField, y0: State) -> CompiledSteps:
    """The solver's steps along a field.

    Raises:
        CannotCompile: there are none.
    """
    if not any(p.requires_grad for p in field.parameters()):
        raise CannotCompile("the field has nothing to learn")
    if any(p.dtype != y0.dtype for p in field.parameters()):  # which one vector of all of them would convert
        raise CannotCompile("the field has parameters of another precision than the state")
    if any(True for _ in field.buffers()):  # before tracing, which would change them as a call does
        raise CannotCompile("the field has buffers, which are none of its parameters")
    return CompiledSteps(compilable(solver), equation_of(field), y0, list(field.parameters()))


def equation_of(field: VectorField) -> Equation:
    """The field as a function of its parameters too."""
    names = [name for name, _ in field.named_parameters()]
    return partial(_evaluate, field, names)


def _evaluate(field: VectorField, names: list[str], t: Time, y: State, parameters: list[Tensor]) -> State:
    dy: State = functional_call(field, dict(zip(names, parameters, strict=True)), (t, y))
    return dy
