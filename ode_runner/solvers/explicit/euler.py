"""Euler's method."""

from dataclasses import dataclass, field
from typing import ClassVar, final

from ode_runner.solvers.classical_tableaus import EULER
from ode_runner.solvers.runge_kutta import FixedStepRungeKutta
from ode_runner.solvers.tableau import Tableau


@final
@dataclass(frozen=True, kw_only=True)
class Euler(FixedStepRungeKutta):
    """The explicit Euler method: order 1, one evaluation per step."""

    order: int = field(default=1, init=False)
    tableau: ClassVar[Tableau] = EULER
