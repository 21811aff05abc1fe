"""The trapezoidal rule."""

from dataclasses import dataclass, field
from typing import ClassVar, final

from ode_runner.solvers.implicit.diagonally_implicit import FixedImplicit
from ode_runner.solvers.tableau import Tableau


@final
@dataclass(frozen=True, kw_only=True)
class Trapezoid(FixedImplicit):
    """Order 2, A-stable and symmetric (Crank-Nicolson); stiff components oscillate instead of decaying."""

    order: int = field(default=2, init=False)
    tableau: ClassVar[Tableau] = Tableau(
        a=((0.0,), (1 / 2, 1 / 2)),
        b=(1 / 2, 1 / 2),
    )
