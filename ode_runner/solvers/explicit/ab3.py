"""Adams and Bashforth's method of order 3."""

from dataclasses import dataclass, field
from typing import ClassVar, final

from ode_runner.solvers.adams_bashforth import AdamsBashforth
from ode_runner.solvers.classical_tableaus import KUTTA
from ode_runner.solvers.tableau import Tableau


@final
@dataclass(frozen=True, kw_only=True)
class AB3(AdamsBashforth):
    """Order 3, after two steps of RK4."""

    order: int = field(default=3, init=False)
    backward_weights: ClassVar[tuple[float, ...]] = (23 / 12, -16 / 12, 5 / 12)
    start: ClassVar[Tableau] = KUTTA
