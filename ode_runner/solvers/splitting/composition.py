"""Splitting methods for sums of two parts."""

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

from ode_runner.errors import IncompatibleChoice
from ode_runner.field import VectorField
from ode_runner.fields.structured_field import SplitField
from ode_runner.solvers.classical_tableaus import EULER, HEUN, KUTTA
from ode_runner.solvers.grid_step import GridStepSolver
from ode_runner.solvers.tableau import explicit_step, stage_time, time_tensor
from ode_runner.types import State, Time

Part = Callable[[Time, State], State]
TABLEAUS = {"euler": EULER, "heun": HEUN, "rk4": KUTTA}


@dataclass(frozen=True, kw_only=True)
class Composition(GridStepSolver):
    """A composition of solves of the two parts of a field.

    Args:
        substep: the explicit method that solves a part, by one step at a time.

    Hairer, Lubich, Wanner. Geometric Numerical Integration. Springer 2006, II.5. · McLachlan, Quispel. Splitting
    methods. Acta Numerica 11, 2002.
    """

    kind: ClassVar[str] = "of fixed step and for fields of two parts"
    fields: ClassVar[type] = SplitField
    fields_in_words: ClassVar[str] = "a field that is a sum of two parts"
    example: ClassVar[str] = "task=closed_form task.problem=heavy_ball"
    substep: Literal["euler", "heun", "rk4"]

    def step(self, field: VectorField, t0: float, t1: float, y0: State) -> State:
        if not isinstance(field, SplitField):
            raise IncompatibleChoice(f"{self.shown_name} needs {self.fields_in_words}. Use solver=rk4.")
        return self.composed(field, t0, t1, y0)

    @abc.abstractmethod
    def composed(self, field: SplitField, t0: float, t1: float, y0: State) -> State:
        """y(t1), by solving the parts in turn with `follow`."""

    def follow(self, part: Part, t0: float, t1: float, y0: State) -> State:
        """The solution at t1 of one part alone, from y0."""
        tableau = TABLEAUS[self.substep]

        def slope(c: float, y: State) -> State:
            return part(time_tensor(stage_time(t0, t1, c), y), y)

        return explicit_step(tableau, slope, t1 - t0, y0, slope(0.0, y0), rows=len(tableau.b))[0]
