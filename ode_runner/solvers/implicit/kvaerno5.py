"""Kvaerno's pair of orders 5 and 4."""

from dataclasses import dataclass, field
from typing import ClassVar, final

from ode_runner.solvers.implicit.diagonally_implicit import AdaptiveImplicit
from ode_runner.solvers.tableau import EmbeddedTableau

G = 0.26
A3 = (0.13, 0.84033320996790809)
A4 = (0.22371961478320505, 0.47675532319799699, -0.06470895363112615)
A5 = (0.16648564323248321, 0.10450018841591720, 0.03631482272098715, -0.13090704451073998)
A6 = (0.13855640231268224, 0.0, -0.04245337201752043, 0.02446657898003141, 0.61943039072480676)
B = (0.13659751177640291, 0.0, -0.05496908796538376, -0.04118626728321046, 0.62993304899016403, 0.06962479448202728)
MIDDLE = (  # of order 4: with stages of order 2, five conditions on seven weights; this is the solution of least norm
    0.16471420497370073,
    0.0,
    0.04526681011491481,
    -0.0032595094371069694,
    0.3922098832259764,
    -0.049465694438742504,
    -0.049465694438742504,
)


@final
@dataclass(frozen=True, kw_only=True)
class Kvaerno5(AdaptiveImplicit):
    """Order 5(4), L-stable and stiffly accurate, as is the embedded solution; six implicit stages.

    The third stage lies 0.23 of a step beyond t1. If the field is not defined beyond the last time, use `kvaerno3`.

    Kvaerno. Singly diagonally implicit Runge-Kutta methods with an explicit first stage. BIT 44, 2004.
    """

    order: int = field(default=5, init=False)
    tableau: ClassVar[EmbeddedTableau] = EmbeddedTableau(
        a=((0.0,), (G, G), (*A3, G), (*A4, G), (*A5, G), (*A6, G), (*B, G)),
        b=(*B, G),
        middle=MIDDLE,
        b_error=(*(b - a for b, a in zip(B, (*A6, G), strict=True)), G),
    )
