"""Adams and Bashforth's method of order 2."""

from dataclasses import dataclass, field
from typing import ClassVar, final

from ode_runner.solvers.adams_bashforth import AdamsBashforth
from ode_runner.solvers.classical_tableaus import HEUN
from ode_runner.solvers.tableau import Tableau


@final
@dataclass(frozen=True, kw_only=True)
class AB2(AdamsBashforth):
    """Order 2, after one step of Heun's method."""

    order: int = field(default=2, init=False)
    backward_weights: ClassVar[tuple[float, ...]] = (3 / 2, -1 / 2)
    start: ClassVar[Tableau] = HEUN
