"""Fehlberg's pair of orders 1 and 2."""

from dataclasses import dataclass, field
from typing import ClassVar, final

from ode_runner.solvers.embedded import EmbeddedRungeKutta
from ode_runner.solvers.tableau import EmbeddedTableau


@final
@dataclass(frozen=True, kw_only=True)
class Fehlberg2(EmbeddedRungeKutta):
    """Order 2(1), advanced with the second order; two evaluations per attempt, one more per accepted step.

    Fehlberg. Low-order classical Runge-Kutta formulas with step size control. NASA TR R-315, 1969.
    """

    order: int = field(default=2, init=False)
    tableau: ClassVar[EmbeddedTableau] = EmbeddedTableau(
        a=((), (1 / 2,), (1 / 256, 255 / 256)),
        b=(1 / 512, 255 / 256, 1 / 512),
        b_error=(-1 / 512, 0.0, 1 / 512),
    )
