"""A registry of compiled solves, by kind of problem."""

from collections.abc import Callable, Hashable
from types import FunctionType, MethodType
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from ode_runner.compiling.python_values import PythonValues
from ode_runner.compiling.values import tensors_of
from ode_runner.devices.side_effects import without_side_effects
from ode_runner.errors import CannotCompile
from ode_runner.fields.structured_field import kind_of
from ode_runner.problem import Problem, Solution
from ode_runner.solvers.base import Solver

CompiledSolve = Callable[[Problem], Solution]
CompiledPiece = Callable[[Solver, Problem], Solution]  # from break to break; the solver has the size of the first step
Solve = TypeVar("Solve", CompiledSolve, CompiledPiece)


class CompiledSolves(Generic[Solve]):
    """The compiled solves of one integrator, by kind of problem; see `kind_of_problem`.

    A solve is compiled for the Python values that its field reads then, and is not used while these are others.
    """

    def __init__(self) -> None:
        self._solves: dict[Hashable, tuple[Solve, PythonValues]] = {}
        self._changed = ""  # which value was the first to change; "": none has
        self._remarked = False

    def add(self, problem: Problem, solve: Solve) -> None:
        """From now on, problems like this one are solved by `solve`.

        Raises:
            CannotCompile: no other problem could be recognised as alike, for its integrands are made for each solve.
        """
        check_lasting(problem)
        self._solves[kind_of_problem(problem)] = solve, values_read(problem)

    def clear(self) -> None:
        """Forget all compiled solves."""
        self._solves.clear()

    def find(self, problem: Problem) -> Solve | None:
        """The compiled solve for problems of this kind; None if there is none."""
        if not self._solves or not lasting(problem):
            return None
        solve, values = self._solves.get(kind_of_problem(problem), (None, None))
        if values is None or not (changed := values.changed()):
            return solve
        self._changed = self._changed or changed
        return None

    def remark(self) -> str:
        """A sentence for the user if a solve was not used because a Python value has changed, once; otherwise ""."""
        if self._remarked or not self._changed:
            return ""
        self._remarked = True
        return f"solved without compiled steps: {self._changed}"


def check_lasting(problem: Problem) -> None:
    """Raises CannotCompile unless every integrand is a module, a method or a module-level function.

    Others, such as closures, may be made for each solve, with other captured values.
    """
    field = problem.field
    anew = [name for name, integral in zip(field.names, field.integrals, strict=True) if not _lasts(integral)]
    if anew:
        raise CannotCompile(
            f"the integrand of {', '.join(anew)} is neither a module nor a method nor a function of a file, so it may "
            "be another one in every solve"
        )


def lasting(problem: Problem) -> bool:
    """Whether the next solve of this kind will have the same integrand objects, by which `find` looks it up."""
    return all(map(_lasts, problem.field.integrals))


def _lasts(integral: nn.Module) -> bool:
    g: object = integral.g
    if isinstance(g, FunctionType):
        return g.__closure__ is None and "<" not in g.__qualname__  # <locals>, <lambda>
    return isinstance(g, nn.Module | MethodType)  # a method of another object is another key


def kind_of_problem(problem: Problem) -> tuple[Hashable, ...]:
    """A key: problems of one kind differ only in values, times and breaks, and not in which tensors require a gradient.

    The first part is the field. The integrands themselves are part of it as well as their names. So is the mode,
    training or evaluation, because a field may be another function in each.
    """
    field, y0 = problem.field, problem.y0
    given = tuple(map(_kind, field.given))
    own = tuple(map(_kind, tensors_of(field.field, *field.integrals)))
    integrals = (
        field.names,
        tuple(integral.g for integral in field.integrals),
        tuple(field.judged),
        tuple(field.counts),
    )
    place = (field.field.training, y0.shape, y0.dtype, y0.device)
    return (field.field, *place, given, own, *integrals, bool(problem.breaks))


def _kind(x: Tensor) -> tuple[Hashable, ...]:
    """The kind of a tensor: machine code reads its memory, so that a converted or moved tensor is of another kind."""
    return x.shape, x.dtype, x.device, x.requires_grad


def values_read(problem: Problem) -> PythonValues:
    """The Python values that the field and its integrands may read, without those that an evaluation changes."""
    values = PythonValues(problem.field.field, *(integral.g for integral in problem.field.integrals))
    evaluate_once(problem)
    values.leave_out_changed()
    return values


def evaluate_once(problem: Problem) -> bool:
    """Evaluate the field at the initial state, uncounted. Returns whether this changed its buffers, which it undoes."""
    field, given = problem.field.field, problem.field.of_field(problem.field.given)
    weights = kind_of(field).call_weights
    calls = [field] if "forward" in weights else [getattr(field, name) for name in weights]
    with torch.no_grad(), without_side_effects(field, problem.y0.device) as (_, buffers):
        for call in calls:
            call(problem.ts[0], problem.y0, *given)
        return buffers.changed()
