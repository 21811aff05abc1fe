"""Yoshida's method of order 4, the triple jump."""

from dataclasses import dataclass, field
from typing import ClassVar, final

from ode_runner.solvers.splitting.symplectic import SplittingSolver

OUTER = 1 / (2 - 2 ** (1 / 3))


@final
@dataclass(frozen=True, kw_only=True)
class Yoshida4(SplittingSolver):
    """Order 4, symmetric and symplectic; three evaluations per step; the second substep goes backwards in time.

    The first substep ends 0.35 of a step beyond t1. If the field is not defined beyond the last time, use `leapfrog`.

    Yoshida. Construction of higher order symplectic integrators. Phys. Lett. A 150, 1990.
    """

    order: int = field(default=4, init=False)
    leaps: ClassVar[tuple[float, ...]] = (OUTER, 1 - 2 * OUTER, OUTER)
