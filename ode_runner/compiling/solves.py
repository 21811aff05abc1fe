"""Which solves have been compiled."""

from collections.abc import Callable, Hashable
from types import FunctionType, MethodType

from torch import Tensor, nn

from ode_runner.compiling.values import parameters_of
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
            CannotCompile: no other problem would be recognised as like it, because its integrands are made anew.
        """
        check_lasting(problem)
        self._solves[kind_of_problem(problem)] = solve

    def clear(self) -> None:
        """Forget all compiled solves."""
        self._solves.clear()

    def find(self, problem: Problem) -> CompiledSolve | None:
        """The compiled solve for problems of this kind; None where there is none."""
        return self._solves.get(kind_of_problem(problem)) if self._solves and lasting(problem) else None


def check_lasting(problem: Problem) -> None:
    """Raises CannotCompile unless every integrand is a module, a method or a function of a file.

    Others, such as a function within one, may be made for every solve, of other numbers.
    """
    field = problem.field
    anew = [name for name, integral in zip(field.names, field.integrals, strict=True) if not _lasts(integral)]
    if anew:
        raise CannotCompile(
            f"the integrand of {', '.join(anew)} is neither a module nor a method nor a function of a file, so it may "
            "be another one in every solve"
        )


def lasting(problem: Problem) -> bool:
    """Whether the next solve of this kind will have the same integrands, as objects: `find` goes by them."""
    return all(map(_lasts, problem.field.integrals))


def _lasts(integral: nn.Module) -> bool:
    g: object = integral.g
    if isinstance(g, FunctionType):
        return g.__closure__ is None and "<" not in g.__qualname__  # <locals>, <lambda>
    return isinstance(g, nn.Module | MethodType)  # a method of another object is another key


def kind_of_problem(problem: Problem) -> tuple[Hashable, ...]:
    """Problems of one kind differ in values and times alone: not in what is learned, which is differentiated by.

    The first part is the field. Integrands are told apart as well as their names; and so are training and evaluation,
    in which a field may be another function.
    """
    field, y0 = problem.field, problem.y0
    given = tuple(map(_kind, field.given))
    learned = tuple(map(_kind, parameters_of(field.field, *field.integrals)))
    integrals = (
        field.names,
        tuple(integral.g for integral in field.integrals),
        tuple(field.judged),
        tuple(field.counts),
    )
    place = (field.field.training, y0.shape, y0.dtype, y0.device)
    return (field.field, *place, given, learned, *integrals, tuple(problem.breaks))


def _kind(x: Tensor) -> tuple[Hashable, ...]:
    """Machine code reads the memory of a tensor: one that has been converted or moved is of another kind."""
    return x.shape, x.dtype, x.device, x.requires_grad
