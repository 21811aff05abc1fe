"""Ralston's method of order 2."""

from dataclasses import dataclass, field
from typing import ClassVar, final

from ode_runner.solvers.runge_kutta import FixedStepRungeKutta
from ode_runner.solvers.tableau import Tableau


@final
@dataclass(frozen=True, kw_only=True)
class Ralston(FixedStepRungeKutta):
    """Order 2, two evaluations per step, with the smallest error bound among such methods.

    Ralston. Runge-Kutta methods with minimum error bounds. Math. Comp. 16, 1962.
    """

    order: int = field(default=2, init=False)
    tableau: ClassVar[Tableau] = Tableau(
        a=((), (2 / 3,)),
        b=(1 / 4, 3 / 4),
    )
