"""Dormand and Prince's pair of orders 5 and 4."""

from dataclasses import dataclass, field
from typing import ClassVar, final

from ode_runner.solvers.embedded import EmbeddedRungeKutta
from ode_runner.solvers.tableau import EmbeddedTableau


@final
@dataclass(frozen=True, kw_only=True)
class Dopri5(EmbeddedRungeKutta):
    """Order 5(4), first same as last: six evaluations per attempt. Dense output of order 4 by Shampine.

    Dormand, Prince. A family of embedded Runge-Kutta formulae. J. Comput. Appl. Math. 6, 1980.
    Shampine. Some practical Runge-Kutta formulas. Math. Comp. 46, 1986.
    """

    order: int = field(default=5, init=False)
    tableau: ClassVar[EmbeddedTableau] = EmbeddedTableau(
        a=(
            (),
            (1 / 5,),
            (3 / 40, 9 / 40),
            (44 / 45, -56 / 15, 32 / 9),
            (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
            (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
            (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
        ),
        b=(35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84, 0.0),
        b_error=(
            35 / 384 - 1951 / 21600,
            0.0,
            500 / 1113 - 22642 / 50085,
            125 / 192 - 451 / 720,
            -2187 / 6784 + 12231 / 42400,
            11 / 84 - 649 / 6300,
            -1 / 60,
        ),
        middle=(
            6025192743 / 30085553152 / 2,
            0.0,
            51252292925 / 65400821598 / 2,
            -2691868925 / 45128329728 / 2,
            187940372067 / 1594534317056 / 2,
            -1776094331 / 19743644256 / 2,
            11237099 / 235043384 / 2,
        ),
    )
