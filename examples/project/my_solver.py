"""A solver: a Runge-Kutta method by its coefficients."""

from dataclasses import dataclass, field
from typing import ClassVar

from ode_runner.solvers.runge_kutta import FixedStepRungeKutta
from ode_runner.solvers.tableau import Tableau


@dataclass(frozen=True, kw_only=True)
class Heun3(FixedStepRungeKutta):
    """Heun's method of order 3, three evaluations a step.

    Hairer, Norsett, Wanner. Solving Ordinary Differential Equations I. Springer 1993, II.1.
    """

    order: int = field(default=3, init=False)
    tableau: ClassVar[Tableau] = Tableau(a=((), (1 / 3,), (0.0, 2 / 3)), b=(1 / 4, 0.0, 3 / 4))
