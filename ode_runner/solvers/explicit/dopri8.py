"""Dormand and Prince's pair of orders 8 and 7."""

from dataclasses import dataclass, field
from typing import ClassVar, final

from torchdiffeq._impl import dopri8 as library  # its coefficients, which are public knowledge but long

from ode_runner.solvers.embedded import EmbeddedRungeKutta
from ode_runner.solvers.tableau import EmbeddedTableau

IDLE = (0.0, 0.0, 0.0, 0.0)  # stages 2 to 5, of low order
BEFORE = (  # stages 6 to 13, and f1
    *(0.059290246867147754, 0.2190926374662624, -0.002745265925408956, -0.01458170813687218),
    *(0.005040023588218826, 0.00017660525033659537, 0.01614760618961427, -0.0036626153241451627),
    -0.012595035543843601,
)
AFTER = (
    *(0.16059327292637893, 0.22524271939993357, 0.10238994111179664, 0.07119518561959887),
    *(0.08435819509509011, 0.002934007731727971, -0.03385148466052993, 0.004480010560438299),
    0.027901157992818514,
)
MIDDLE = (
    *(0.015635777397284018, 0.22026348986152156, 0.26384358774188627, -0.19801570055544035),
    *(0.15373799975468488, 0.00042525261116486626, 0.010750328234825949, -0.01442722874219685),
    0.0034722222222775823,
)


@final
@dataclass(frozen=True, kw_only=True)
class Dopri8(EmbeddedRungeKutta):
    """Order 8(7), first same as last: thirteen evaluations per attempt, three more per step with outputs inside.

    Meant for tight tolerances in float64. The dense output is our own: a polynomial of degree 7 with error O(dt^8), so
    that outputs are of order 8, too. The step's stages give states of order 6 only at 1/2 -+ 1/sqrt(28). The slopes
    there give a state of order 7 in the middle. Free weights minimise the squared residuals of the next order's
    conditions.

    Prince, Dormand. High order embedded Runge-Kutta formulae. J. Comput. Appl. Math. 7, 1981.
    """

    order: int = field(default=8, init=False)
    tableau: ClassVar[EmbeddedTableau] = EmbeddedTableau(
        a=((), *(tuple(row.tolist()) for row in library.B)),
        b=tuple(library.C_sol.tolist()),
        b_error=tuple(library.C_err.tolist()),
        inner=(
            (0.044855269064076435, *IDLE, *BEFORE),
            (0.04373923072736054, *IDLE, *AFTER, 0.0),
        ),
        middle=(0.04431427147380043, *IDLE, *MIDDLE, 0.06430645547735668, -0.064306455477165),
    )
