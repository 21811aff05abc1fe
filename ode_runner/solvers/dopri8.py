"""Dormand and Prince's pair of orders 8 and 7."""

from dataclasses import dataclass, field
from typing import ClassVar, final

from torchdiffeq._impl import dopri8 as library  # its coefficients, which are public knowledge but long

from ode_runner.solvers.embedded import EmbeddedRungeKutta
from ode_runner.solvers.tableau import EmbeddedTableau


@final
@dataclass(frozen=True, kw_only=True)
class Dopri8(EmbeddedRungeKutta):
    """Order 8(7), first same as last: thirteen evaluations an attempt; dense output of order 4 only.

    Meant for tight tolerances in float64.

    Prince, Dormand. High order embedded Runge-Kutta formulae. J. Comput. Appl. Math. 7, 1981.
    """

    order: int = field(default=8, init=False)
    tableau: ClassVar[EmbeddedTableau] = EmbeddedTableau(
        a=((), *(tuple(row.tolist()) for row in library.B)),
        b=tuple(library.C_sol.tolist()),
        b_error=tuple(library.C_err.tolist()),
        middle=tuple(library._C_mid.tolist()),
    )
