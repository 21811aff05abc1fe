"""Adams and Bashforth's method of order 4."""

from dataclasses import dataclass, field
from typing import ClassVar, final

from ode_runner.solvers.adams_bashforth import AdamsBashforth
from ode_runner.solvers.classical_tableaus import KUTTA
from ode_runner.solvers.tableau import Tableau


@final
@dataclass(frozen=True, kw_only=True)
class AB4(AdamsBashforth):
    """Order 4, after three steps of RK4."""

    order: int = field(default=4, init=False)
    backward_weights: ClassVar[tuple[float, ...]] = (55 / 24, -59 / 24, 37 / 24, -9 / 24)
    start: ClassVar[Tableau] = KUTTA
