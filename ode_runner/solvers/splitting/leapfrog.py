"""The leapfrog, or Stormer-Verlet, method."""

from dataclasses import dataclass, field
from typing import ClassVar, final

from ode_runner.solvers.splitting.symplectic import SplittingSolver


@final
@dataclass(frozen=True, kw_only=True)
class Leapfrog(SplittingSolver):
    """Order 2, symmetric and symplectic; one evaluation per step: a drift and a kick.

    Hairer, Lubich, Wanner. Geometric numerical integration illustrated by the Stormer-Verlet method. Acta Numerica 12,
    2003.
    """

    order: int = field(default=2, init=False)
    leaps: ClassVar[tuple[float, ...]] = (1.0,)
