"""A few fixed-point iterations of the implicit Euler equation."""

from dataclasses import dataclass, field
from typing import ClassVar, final

from ode_runner.errors import RefusedInput
from ode_runner.solvers.classical_tableaus import EULER
from ode_runner.solvers.runge_kutta import FixedStepRungeKutta
from ode_runner.solvers.tableau import Tableau

MOST_SWEEPS = 64


@final
@dataclass(frozen=True, kw_only=True)
class FixedPointEuler(FixedStepRungeKutta):
    """y1 <- y0 + dt f(t1, y1), iterated `sweeps` times from an explicit Euler step: an explicit method of order 1.

    Its stability function is 1 + z + ... + z^(sweeps + 1): for decay, it allows no longer steps than explicit Euler. It
    converges to implicit Euler only if the step is shorter than 1 / (Lipschitz constant of the field).
    `implicit_euler` solves the equation.
    """

    order: int = field(default=1, init=False)
    tableau: ClassVar[Tableau] = EULER  # placeholder; each instance sets its own
    sweeps: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.sweeps <= MOST_SWEEPS:
            raise RefusedInput(f"solver.sweeps must be from 0 to {MOST_SWEEPS}, not {self.sweeps}.")
        rows = tuple((*[0.0] * (i - 1), 1.0) if i else () for i in range(self.sweeps + 2))
        object.__setattr__(self, "tableau", Tableau(a=rows[:-1], b=rows[-1]))  # the dataclass is frozen
