"""Bogacki and Shampine's pair of orders 3 and 2."""

from dataclasses import dataclass, field
from typing import ClassVar, final

from ode_runner.solvers.embedded import EmbeddedRungeKutta
from ode_runner.solvers.tableau import EmbeddedTableau


@final
@dataclass(frozen=True, kw_only=True)
class Bosh3(EmbeddedRungeKutta):
    """Order 3(2), first same as last: three evaluations per attempt.

    Bogacki, Shampine. A 3(2) pair of Runge-Kutta formulas. Applied Mathematics Letters 2, 1989.
    """

    order: int = field(default=3, init=False)
    tableau: ClassVar[EmbeddedTableau] = EmbeddedTableau(
        a=((), (1 / 2,), (0.0, 3 / 4), (2 / 9, 1 / 3, 4 / 9)),
        b=(2 / 9, 1 / 3, 4 / 9, 0.0),
        b_error=(2 / 9 - 7 / 24, 1 / 3 - 1 / 4, 4 / 9 - 1 / 3, -1 / 8),
    )
