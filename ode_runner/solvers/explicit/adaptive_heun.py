"""Heun's method, with Euler's method as error estimator."""

from dataclasses import dataclass, field
from typing import ClassVar, final

from ode_runner.solvers.embedded import EmbeddedRungeKutta
from ode_runner.solvers.tableau import EmbeddedTableau


@final
@dataclass(frozen=True, kw_only=True)
class AdaptiveHeun(EmbeddedRungeKutta):
    """Order 2(1); one evaluation per attempt, one more per accepted step. Dense output is cubic Hermite."""

    order: int = field(default=2, init=False)
    tableau: ClassVar[EmbeddedTableau] = EmbeddedTableau(
        a=((), (1.0,)),
        b=(1 / 2, 1 / 2),
        b_error=(-1 / 2, 1 / 2),
    )
