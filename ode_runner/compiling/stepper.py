"""Compiled steppers: the steps of one solver along one field, for states of one shape and type."""

from dataclasses import replace

import torch
from torch import Tensor

from ode_runner.compiling.c_code.graph import has_code
from ode_runner.compiling.integrals import StepsWithIntegrals
from ode_runner.compiling.solves import check_lasting, evaluate_once
from ode_runner.compiling.steps import CompiledSteps, Packed
from ode_runner.compiling.values import Values
from ode_runner.errors import CannotCompile
from ode_runner.field import StochasticField, VectorField
from ode_runner.fields.ledger import Ledger
from ode_runner.fields.structured_field import kind_of
from ode_runner.problem import Problem
from ode_runner.solvers.base import AdaptiveSolver, Solver
from ode_runner.solvers.embedded import EmbeddedRungeKutta
from ode_runner.solvers.implicit.diagonally_implicit import DiagonallyImplicit
from ode_runner.solvers.initial_step import first_step
from ode_runner.solvers.one_step import ExplicitRungeKutta, RungeKutta
from ode_runner.solvers.per_sample import PerSampleStepping
from ode_runner.solvers.runge_kutta import FixedStepRungeKutta
from ode_runner.solvers.stepper import AdaptiveStepper, StepResult
from ode_runner.solvers.tableau import time_tensor
from ode_runner.types import State

# Methods of solvers that compiled code replaces. Step sizes and the tableau still come from the solver.
REPEATED = ("step", "steps", "slope", "stage", "stages", "estimate", "difference", "in_tolerances", "outputs")


class CompiledStepper(AdaptiveStepper):
    """Takes compiled steps, without gradients, and counts the evaluations of each step.

    `field` is evaluated eagerly if norms overflow, for which there is no compiled code.
    """

    def __init__(self, steps: CompiledSteps, field: VectorField, ledger: Ledger, theta: Tensor) -> None:
        self.steps, self.field, self.ledger, self.theta = steps, field, ledger, theta

    def _enter(self, evaluations: int) -> None:
        self.ledger.tally.evaluations += evaluations
        self.ledger.tally.products += evaluations * self.steps.products_each

    def slope(self, t: float, y: State) -> State:
        self._enter(1)
        [dy] = self.steps.slope(time_tensor(t, y), y, self.theta)
        return dy

    def begin(self, t0: float, y0: State, *, span: float) -> tuple[State, float]:
        steps = self.steps
        f0, norms = steps.begin(time_tensor(t0, y0), y0, self.theta)

        def slope_change(dt: float) -> float:
            self._enter(1)
            return float(steps.slope_change(y0.new_tensor([t0, t0 + dt, dt]), y0, f0, self.theta)[0])

        self._enter(1)
        d0, d1 = norms.tolist()
        dt = first_step(d0, d1, slope_change, order=steps.order, span=span)
        if not dt and bool(torch.isfinite(f0).all()):  # squares have overflowed
            dt = steps.first_step(self.field, t0, y0, f0, span=span)
        return f0, dt

    def step(self, t0: float, t1: float, y0: State, f0: State | None) -> StepResult:
        steps, clock = self.steps, y0.new_tensor([t0, t1, t1 - t0])  # the difference in float64
        found = steps.fresh_step(clock, y0, self.theta) if f0 is None else steps.step(clock, y0, f0, self.theta)
        self._enter(len(steps.tableau.b) - (f0 is not None))
        if steps.tableau.first_same_as_last:
            y1, error, f1, curve = found
            return StepResult(y1, [], f1, float(error), curve)
        y1, *judged, ks = found
        return StepResult(y1, list(ks.unbind()), None, float(judged[0]) if judged else 0.0)


def stepping_by(steps: CompiledSteps, ledger: Ledger, theta: Tensor, *, first: float | None) -> RungeKutta:
    """The solver of the steps, set to take compiled steps; if it is adaptive, with this size of its first step."""
    solver = with_first_step(steps.solver, first)
    return replace(solver, stepping=lambda field: CompiledStepper(steps, field, ledger, theta))


def with_first_step(solver: RungeKutta, first: float | None) -> RungeKutta:
    """The solver with a size of its first step, if it is adaptive and `first` is not None."""
    if first is None or not isinstance(solver, EmbeddedRungeKutta):
        return solver
    return replace(solver, first_step=first)


def first_step_of(solver: Solver) -> float | None:
    """The size of the first step; None if step control chooses it, or steps are fixed."""
    return solver.first_step if isinstance(solver, AdaptiveSolver) else None


def compilable(solver: Solver, *, each: bool = False) -> ExplicitRungeKutta:
    """The solver, if its steps can be compiled; `each`: as separate steps for each sample.

    Raises:
        CannotCompile: they cannot be.
    """
    if not isinstance(solver, FixedStepRungeKutta | EmbeddedRungeKutta):
        raise CannotCompile(
            "only steps of explicit and diagonally implicit Runge-Kutta solvers, and of those of fixed step for "
            f"stochastic fields, can be compiled, and this is {solver.kind}"
        )
    check_repeated(solver, FixedStepRungeKutta if isinstance(solver, FixedStepRungeKutta) else EmbeddedRungeKutta)
    if solver.tableau.extra_stages:
        raise CannotCompile("outputs within a step of this method take evaluations of their own")
    if isinstance(solver, EmbeddedRungeKutta) and solver.per_sample and not each:
        raise CannotCompile("steps of each sample's own make batches of any size")
    return solver


def check_repeated(solver: Solver, base: type[Solver]) -> None:
    """Raises CannotCompile if the solver overrides methods of `base` that compiled code replaces."""
    own = [name for name in REPEATED if getattr(type(solver), name, None) is not getattr(base, name, None)]
    if own:
        raise CannotCompile(f"this solver takes its steps in a way of its own ({', '.join(own)})")


def check_pieces(solver: Solver, problem: Problem) -> None:
    """Raises CannotCompile unless there may be compiled code for solves of the problem from break to break."""
    because = ""
    if problem.y0.device.type != "cpu":
        because = "is compiled from one to the next on a CPU only"
    elif problem.field.names:
        because = "something is integrated along it"
    elif isinstance(solver, PerSampleStepping) and solver.per_sample:
        because = "each sample has its own steps"
    elif isinstance(solver, DiagonallyImplicit):
        because = "implicit steps are not compiled from one to the next"
    if because:
        raise CannotCompile(f"the solve has breaks, and {because}")


def steps_of(solver: Solver, problem: Problem) -> tuple[CompiledSteps, Values]:
    """The solver's compiled steps along the field of a problem, and the values that they depend on.

    Raises:
        CannotCompile: they cannot be compiled.
    """
    field, y0, values = problem.field, problem.y0, values_of(problem)
    method, found = compilable(solver), values.tensors(field)
    if field.names:
        check_lasting(problem)
        return StepsWithIntegrals(method, field, y0, values), values
    return CompiledSteps(method, values.equation(field), y0, found, learned=values.learned), values


def values_of(problem: Problem) -> Values:
    """The values that the field of a problem and its integrands depend on.

    Raises:
        CannotCompile: they depend on tensors of another type than the state, on buffers that calls change, or on
            nothing that is learned.
    """
    field, y0 = problem.field, problem.y0
    values = Values.of(field)
    found = values.tensors(field)
    if not values.learned:
        raise CannotCompile("the field has nothing to learn")
    if any(z.layout != torch.strided for z in found):
        raise CannotCompile("the field has a sparse tensor, for which there is no code")
    if any(z.dtype != y0.dtype for z in found):  # packing into one vector would convert them
        raise CannotCompile(
            "the field has parameters or buffers, or is given tensors, of another precision or type than the state"
        )
    check_recordable(problem)
    if any(True for integral in field.integrals for _ in integral.buffers()):
        raise CannotCompile("an integrand has buffers, and whether its calls change them is not known")
    return values


def check_recordable(problem: Problem) -> None:
    """Raises CannotCompile if an evaluation of the field changes its buffers.

    If the field has buffers, this evaluates it once, which is not counted.
    """
    field = problem.field.field
    if not any(True for _ in field.buffers()):
        return
    if "forward" not in kind_of(field).call_weights or evaluate_once(problem):
        raise CannotCompile("the field has buffers, and recording would change them as calls do")


def has_c_code(problem: Problem) -> bool:
    """Whether the field with its integrands, and the backward pass of both, have C code, which compiles in seconds.

    Raises:
        CannotCompile: see `values_of`; or the field is not a fixed sequence of operations.
    """
    field = problem.field
    if isinstance(field, StochasticField):
        return False  # it has two functions and integrands; PyTorch's compiler may be needed
    values = values_of(problem)
    packed = Packed(problem.y0, values.tensors(field), learned=values.learned)
    found = values.slope_and_rates(field) if field.names else values.equation(field)

    def backward(t: Tensor, y: Tensor, *arguments: Tensor) -> list[Tensor]:
        *cotangents, sums, theta = arguments
        by = tuple(cotangents) if field.names else cotangents[0]
        return packed.field_vjp(lambda y, values: found(t, y, values), y, by, sums, theta)

    t, cotangents = packed.y0.new_tensor(0.125), [packed.noise()]
    if field.names:
        size = len(packed.y0) * len(field.names)
        cotangents.append(torch.linspace(1.0, 2.0, size).view(-1, len(field.names)).to(packed.y0))
    return has_code(backward, [t, packed.y0, *cotangents, packed.sums(), packed.theta])
