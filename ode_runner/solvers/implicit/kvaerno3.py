"""Kvaerno's pair of orders 3 and 2."""

from dataclasses import dataclass, field
from typing import ClassVar, final

from ode_runner.solvers.implicit.diagonally_implicit import AdaptiveImplicit
from ode_runner.solvers.tableau import EmbeddedTableau

G = 0.4358665215084589994  # root of x^3 - 3 x^2 + 3/2 x - 1/6 that makes the method L-stable
A3 = ((-4 * G**2 + 6 * G - 1) / (4 * G), (1 - 2 * G) / (4 * G))
B = ((6 * G - 1) / (12 * G), -1 / ((24 * G - 12) * G), (-6 * G**2 + 6 * G - 1) / (6 * G - 3))


@final
@dataclass(frozen=True, kw_only=True)
class Kvaerno3(AdaptiveImplicit):
    """Order 3(2), L-stable and stiffly accurate, as is the embedded solution; three implicit stages.

    Kvaerno. Singly diagonally implicit Runge-Kutta methods with an explicit first stage. BIT 44, 2004.
    """

    order: int = field(default=3, init=False)
    tableau: ClassVar[EmbeddedTableau] = EmbeddedTableau(
        a=((0.0,), (G, G), (*A3, G), (*B, G)),
        b=(*B, G),
        b_error=(B[0] - A3[0], B[1] - A3[1], B[2] - G, G),
    )
