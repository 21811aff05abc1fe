"""A field whose steps are compiled."""

from functools import partial

from torch import Tensor
from torch.func import functional_call

from ode_runner.compiling.steps import CompiledSteps, Equation
from ode_runner.errors import CannotCompile
from ode_runner.field import CountedField, VectorField
from ode_runner.solvers.base import Solver
from ode_runner.solvers.embedded import EmbeddedRungeKutta
from ode_runner.solvers.one_step import ExplicitOneStepSolver, OneStepSolver, StepTaker, Taken
from ode_runner.solvers.runge_kutta import ExplicitRungeKutta
from ode_runner.types import State, Time


class CompiledField(StepTaker):
    """A counted field whose slopes and steps are compiled; a step counts as the evaluations that it is made of."""

    def __init__(self, field: CountedField, steps: CompiledSteps, theta: Tensor) -> None:
        super().__init__(field.field, field.ledger)
        self.steps, self.theta = steps, theta

    def forward(self, t: Time, y: State) -> State:
        self.ledger.tally.evaluations += 1
        [dy] = self.steps.slope(t, y, self.theta)
        return dy

    def take(self, solver: OneStepSolver, t0: float, t1: float, y0: State, f0: State) -> Taken:
        self.ledger.tally.evaluations += self.steps.evaluations
        clock = y0.new_tensor([t0, t1, t1 - t0])  # the difference is taken before rounding to the state's type
        y1, ks, *error = self.steps.forth(clock, y0, f0, self.theta)
        return Taken(y1, list(ks.unbind()), float(error[0]) if error else 0.0)


def compilable(solver: Solver) -> ExplicitOneStepSolver:
    """The solver, if its steps can be compiled.

    Raises:
        CannotCompile: no.
    """
    if not isinstance(solver, ExplicitRungeKutta | EmbeddedRungeKutta):
        raise CannotCompile(f"only an explicit Runge-Kutta solver's steps can be compiled, and this is {solver.kind}")
    if solver.tableau.places:
        raise CannotCompile("outputs within a step of this method take evaluations of their own")
    if isinstance(solver, EmbeddedRungeKutta) and solver.per_sample:
        raise CannotCompile("samples that step on their own make batches of any size")
    return solver


def steps_of(solver: Solver, field: VectorField, y0: State) -> CompiledSteps:
    """The solver's steps along a field."""
    return CompiledSteps(compilable(solver), equation_of(field), y0, list(field.parameters()))


def equation_of(field: VectorField) -> Equation:
    """The field as a function of its parameters too."""
    names = [name for name, _ in field.named_parameters()]
    return partial(_evaluate, field, names)


def _evaluate(field: VectorField, names: list[str], t: Time, y: State, parameters: list[Tensor]) -> State:
    dy: State = functional_call(field, dict(zip(names, parameters, strict=True)), (t, y))
    return dy
