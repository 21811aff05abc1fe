"""The explicit midpoint rule."""

from dataclasses import dataclass, field
from typing import ClassVar, final

from ode_runner.solvers.runge_kutta import FixedStepRungeKutta
from ode_runner.solvers.tableau import Tableau


@final
@dataclass(frozen=True, kw_only=True)
class Midpoint(FixedStepRungeKutta):
    """Runge's midpoint rule: order 2, two evaluations per step."""

    order: int = field(default=2, init=False)
    tableau: ClassVar[Tableau] = Tableau(
        a=((), (1 / 2,)),
        b=(0.0, 1.0),
    )
