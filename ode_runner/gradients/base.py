"""What a gradient mode is."""

import abc
from dataclasses import dataclass
from typing import ClassVar

from ode_runner.compiling.solves import CompiledSolve
from ode_runner.errors import CannotCompile, as_chosen
from ode_runner.field import VectorField
from ode_runner.problem import Problem, Solution
from ode_runner.solvers.base import Solver


@dataclass(frozen=True, kw_only=True)
class GradientMode(abc.ABC):
    """How the derivative of a loss with respect to y0 and the field's parameters is obtained.

    The mode owns the solve: it decides what is kept for the backward pass, and enters in the field's ledger
    whatever steps that pass takes.
    """

    requires: ClassVar[type] = Solver  # the least a solver must offer
    excludes: ClassVar[tuple[type, ...]] = ()  # solvers it does not take all the same
    requirement: ClassVar[str] = "any solver"  # the same, in words
    example: ClassVar[str] = "dopri5"  # a solver that offers it
    own_derivative: ClassVar[bool] = False  # nothing of the solver's is differentiated
    solves_an_adjoint: ClassVar[bool] = False  # by the solver, which must take an equation that is no special field
    exact: ClassVar[bool]  # True: the derivative of the discrete solution, up to rounding
    through_autograd: ClassVar[bool] = False  # which sees all evaluations, each of them made once
    many_outputs: ClassVar[bool] = False  # a solve is differentiated by any number of outputs at no evaluation more
    redraws: ClassVar[bool] = False  # evaluates anew with the random numbers of before, along steps of a fixed grid
    as_posed: ClassVar[bool] = False  # takes problems with their breaks, not piece by piece: who only looks at solves
    sized_by_batch: ClassVar[bool] = False  # takes a problem or does not by how many samples there are
    each_sample: ClassVar[bool] = False  # follows solvers that step every sample on its own
    to_events: ClassVar[bool] = False  # takes solves that end where an event does

    @property
    def shown_name(self) -> str:
        """What messages call it: as it is typed, or one's own by its class."""
        return as_chosen("gradient", self)

    @classmethod
    def takes(cls, solver: type[Solver]) -> bool:
        """Whether the mode differentiates solves by solvers of this class."""
        able = solver.differentiable or cls.own_derivative
        able = able and (not cls.solves_an_adjoint or issubclass(VectorField, solver.fields))
        return able and issubclass(solver, cls.requires) and not issubclass(solver, cls.excludes)

    def check(self, solver: Solver) -> None:
        """Raises IncompatibleChoice if an option of the mode asks for what `solver`, of a type it accepts, lacks."""
        del solver

    def check_size(self, problem: Problem) -> None:
        """Raises IncompatibleChoice if a mode that is `sized_by_batch` does not take a problem; evaluates no field."""
        del problem

    def compiled(self, solver: Solver, problem: Problem, *, fuses: bool = False) -> CompiledSolve:
        """`solve` of compiled steps for problems like this one, which differ in values and times alone.

        Where they are recorded, on a GPU, the field is compiled into fused kernels first if `fuses` says so.

        Raises:
            CannotCompile: this mode, the solver or the field does not allow it.
        """
        raise CannotCompile("of the gradient modes only backprop, checkpoint, adjoint and seminorm take compiled steps")

    @abc.abstractmethod
    def solve(self, solver: Solver, problem: Problem) -> Solution:
        """Values at `ts`, differentiable with respect to `y0` and the field's parameters."""
