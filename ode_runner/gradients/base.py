"""The base class of gradient modes."""

import abc
from dataclasses import dataclass
from typing import ClassVar

from ode_runner.compiling.solves import CompiledPiece, CompiledSolve
from ode_runner.errors import CannotCompile, RefusedInput, as_chosen
from ode_runner.field import VectorField
from ode_runner.problem import Problem, Solution
from ode_runner.solvers.base import Solver

COMPILED = "of the gradient modes only backprop, checkpoint, adjoint and seminorm take compiled steps"


@dataclass(frozen=True, kw_only=True)
class GradientMode(abc.ABC):
    """A method to differentiate a solve with respect to y0 and the field's parameters.

    The mode runs the solve. It decides what is stored for the backward pass, and counts the steps of that pass in the
    field's ledger.
    """

    requires: ClassVar[type] = Solver  # the class that a solver must be an instance of
    excludes: ClassVar[tuple[type, ...]] = ()  # subclasses that it does not take
    requirement: ClassVar[str] = "any solver"  # the same, in words
    example: ClassVar[str] = "dopri5"  # a solver that it takes
    own_derivative: ClassVar[bool] = False  # True: the solver's operations are not differentiated
    solves_an_adjoint: ClassVar[bool] = False  # True: the solver solves an adjoint equation, a field of no special kind
    exact: ClassVar[bool]  # True: the derivative of the discrete solution, up to rounding
    through_autograd: ClassVar[bool] = False  # True: autograd records all evaluations, each made once
    many_outputs: ClassVar[bool] = False  # True: derivatives of several outputs take no further evaluations
    redraws: ClassVar[bool] = False  # True: recomputed evaluations draw the same random numbers, with fixed steps
    takes_breaks: ClassVar[bool] = False  # True: takes a problem whole, with its breaks; for modes that observe solves
    sized_by_batch: ClassVar[bool] = False  # True: `check_size` depends on the number of samples
    each_sample: ClassVar[bool] = False  # True: takes solvers in which every sample has its own steps
    takes_complex: ClassVar[bool] = False  # True: parameters may be complex, as with `through_autograd`
    to_events: ClassVar[bool] = False  # True: takes solves that end at an event

    @property
    def shown_name(self) -> str:
        """The name in messages: `gradient=NAME`, or the class name of a user's own mode."""
        return as_chosen("gradient", self)

    @classmethod
    def takes(cls, solver: type[Solver]) -> bool:
        """Whether the mode differentiates solves by solvers of this class."""
        able = solver.differentiable or cls.own_derivative
        able = able and (not cls.solves_an_adjoint or issubclass(VectorField, solver.fields))
        return able and issubclass(solver, cls.requires) and not issubclass(solver, cls.excludes)

    def check(self, solver: Solver) -> None:
        """Raises IncompatibleChoice if an option of the mode does not go with `solver`, whose class it accepts."""
        del solver

    def check_size(self, problem: Problem) -> None:
        """Raises IncompatibleChoice if a `sized_by_batch` mode does not take a problem; evaluates no field."""
        del problem

    def compiled(self, solver: Solver, problem: Problem, *, fuses: bool = False) -> CompiledSolve:
        """`solve` with compiled steps, for problems that differ from this one in values and times only.

        On a GPU, where steps are recorded, `fuses` compiles the field into fused kernels first.

        Raises:
            CannotCompile: this mode, the solver or the field cannot be compiled.
        """
        raise CannotCompile(COMPILED)

    def compiled_piece(self, solver: Solver, problem: Problem) -> CompiledPiece:
        """As `compiled`, on a CPU, for the solves of a problem from break to break.

        Raises:
            CannotCompile: this mode, the solver or the field cannot be compiled.
        """
        raise CannotCompile(COMPILED)

    @abc.abstractmethod
    def solve(self, solver: Solver, problem: Problem) -> Solution:
        """The solution at `ts`, differentiable with respect to `y0` and the field's parameters."""


def check_solution(solution: object, mode: GradientMode) -> None:
    """Raises RefusedInput unless a mode, of one's own, has returned a solution."""
    if not isinstance(solution, Solution):
        raise RefusedInput(
            f"{type(mode).__name__}.solve returned a {type(solution).__name__}, and a gradient mode returns the "
            "Solution that solver.solve(field, y0, ts) gives."
        )
