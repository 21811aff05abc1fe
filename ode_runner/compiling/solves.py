"""Which solves have been compiled."""

from collections.abc import Callable, Hashable

from ode_runner.compiling.values import parameters_of
from ode_runner.problem import Problem, Solution

CompiledSolve = Callable[[Problem], Solution]


class CompiledSolves:
    """Those of one integrator, added before training; each serves problems like the one that it was made for."""

    def __init__(self) -> None:
        self._solves: dict[Hashable, CompiledSolve] = {}

    def add(self, problem: Problem, solve: CompiledSolve) -> None:
        """From now on, problems like this one are solved by `solve`."""
        self._solves[kind_of_problem(problem)] = solve

    def clear(self) -> None:
        """From now on, nothing is compiled."""
        self._solves.clear()

    def find(self, problem: Problem) -> CompiledSolve | None:
        """What has been compiled for such problems."""
        return self._solves.get(kind_of_problem(problem)) if self._solves else None


def kind_of_problem(problem: Problem) -> tuple[Hashable, ...]:
    """Problems of one kind differ in values and times alone: not in what is learned, which is differentiated by.

    The first part is the field.
    """
    field, y0 = problem.field, problem.y0
    given = tuple((z.shape, z.dtype, z.requires_grad) for z in field.given)
    learned = tuple(p.requires_grad for p in parameters_of(field.field))
    return (field.field, y0.shape, y0.dtype, given, learned, field.names, tuple(problem.breaks))
