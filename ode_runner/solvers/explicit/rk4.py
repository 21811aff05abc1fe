"""The classical Runge-Kutta method."""

from dataclasses import dataclass, field
from typing import ClassVar, final

from ode_runner.solvers.classical_tableaus import KUTTA
from ode_runner.solvers.runge_kutta import FixedStepRungeKutta
from ode_runner.solvers.tableau import Tableau


@final
@dataclass(frozen=True, kw_only=True)
class RK4(FixedStepRungeKutta):
    """Kutta's classical method of 1901: order 4, four evaluations per step."""

    order: int = field(default=4, init=False)
    tableau: ClassVar[Tableau] = KUTTA
