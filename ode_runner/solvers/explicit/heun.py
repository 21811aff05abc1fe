"""Heun's method."""

from dataclasses import dataclass, field
from typing import ClassVar, final

from ode_runner.solvers.classical_tableaus import HEUN
from ode_runner.solvers.runge_kutta import FixedStepRungeKutta
from ode_runner.solvers.tableau import Tableau


@final
@dataclass(frozen=True, kw_only=True)
class Heun(FixedStepRungeKutta):
    """Heun's trapezoidal rule: order 2, two evaluations per step."""

    order: int = field(default=2, init=False)
    tableau: ClassVar[Tableau] = HEUN
