"""Strang splitting."""

from dataclasses import dataclass, field
from typing import final

from ode_runner.fields.structured_field import SplitField
from ode_runner.solvers.splitting.composition import Composition
from ode_runner.types import State


@final
@dataclass(frozen=True, kw_only=True)
class Strang(Composition):
    """Solves the first part over half a step, the second over the whole step, the first over the other half.

    The order is 2 if the parts are solved by a method of order 2 or more; with Euler's method it is 1.

    Strang. On the construction and comparison of difference schemes. SIAM J. Numer. Anal. 5, 1968.
    """

    order: int = field(default=2, init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.substep == "euler":
            object.__setattr__(self, "order", 1)  # the dataclass is frozen

    def composed(self, field: SplitField, t0: float, t1: float, y0: State) -> State:
        middle = (t0 + t1) / 2
        y = self.follow(field.first_part, t0, middle, y0)
        y = self.follow(field.second_part, t0, t1, y)
        return self.follow(field.first_part, middle, t1, y)
