"""Heun's method for Stratonovich equations."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, final

from ode_runner.solvers.stochastic import StratonovichRungeKutta
from ode_runner.solvers.tableau import Point
from ode_runner.types import State


@final
@dataclass(frozen=True, kw_only=True)
class HeunSDE(StratonovichRungeKutta):
    """The trapezoidal rule for drift dt + diffusion dW: strong order 1 with commutative noise, 1/2 with general noise.

    Two evaluations per step.

    Ruemelin. Numerical Treatment of Stochastic Differential Equations. SIAM J. Numer. Anal. 1982.
    """

    looks_ahead: ClassVar[bool] = True
    order: int = field(default=1, init=False)

    def advance(self, rise: Any, t0: Point, dt: Point, y0: State, first: State) -> State:
        return y0 + (first + rise(t0 + dt, y0 + first)) / 2
