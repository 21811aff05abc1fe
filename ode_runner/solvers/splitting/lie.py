"""Lie-Trotter splitting."""

from dataclasses import dataclass, field
from typing import final

from ode_runner.fields.structured_field import SplitField
from ode_runner.solvers.splitting.composition import Composition
from ode_runner.types import State


@final
@dataclass(frozen=True, kw_only=True)
class Lie(Composition):
    """Solves the first part over the whole step, then the second: order 1.

    Trotter. On the product of semi-groups of operators. Proc. AMS 10, 1959.
    """

    order: int = field(default=1, init=False)

    def composed(self, field: SplitField, t0: float, t1: float, y0: State) -> State:
        return self.follow(field.second_part, t0, t1, self.follow(field.first_part, t0, t1, y0))
