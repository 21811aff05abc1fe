"""Kutta's 3/8 rule."""

from dataclasses import dataclass, field
from typing import ClassVar, final

from ode_runner.solvers.runge_kutta import FixedStepRungeKutta
from ode_runner.solvers.tableau import Tableau


@final
@dataclass(frozen=True, kw_only=True)
class RK38(FixedStepRungeKutta):
    """Kutta's 3/8 rule: order 4, four evaluations per step; smaller error constant than `rk4`."""

    order: int = field(default=4, init=False)
    tableau: ClassVar[Tableau] = Tableau(
        a=((), (1 / 3,), (-1 / 3, 1.0), (1.0, -1.0, 1.0)),
        b=(1 / 8, 3 / 8, 3 / 8, 1 / 8),
    )
