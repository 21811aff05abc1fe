"""A registry of compiled solves, by kind of problem."""

from collections.abc import Callable, Hashable
from types import FunctionType, MethodType

from torch import Tensor, nn

from ode_runner.compiling.values import tensors_of
from ode_runner.errors import CannotCompile
from ode_runner.problem import Problem, Solution

CompiledSolve = Callable[[Problem], Solution]


class CompiledSolves:
    """The compiled solves of one integrator, by kind of problem; see `kind_of_problem`."""

    def __init__(self) -> None:
        self._solves: dict[Hashable, CompiledSolve] = {}

    def add(self, problem: Problem, solve: CompiledSolve) -> None:
        """From now on, problems like this one are solved by `solve`.

        Raises:
            CannotCompile: no other problem could be recognised as alike, for its integrands are made for each solve.
        """
        check_lasting(problem)
        self._solves[kind_of_problem(problem)] = solve

    def clear(self) -> None:
        """Forget all compiled solves."""
        self._solves.clear()

    def find(self, problem: Problem) -> CompiledSolve | None:
        """The compiled solve for problems of this kind; None if there is none."""
        return self._solves.get(kind_of_problem(problem)) if self._solves and lasting(problem) else None


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
    """A key: problems of one kind differ only in values and times, and not in which tensors require a gradient.

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
    return (field.field, *place, given, own, *integrals, tuple(problem.breaks))


def _kind(x: Tensor) -> tuple[Hashable, ...]:
    """The kind of a tensor: machine code reads its memory, so that a converted or moved tensor is of another kind."""
    return x.shape, x.dtype, x.device, x.requires_grad
