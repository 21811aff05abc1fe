"""The midpoint rule for Stratonovich equations."""

from dataclasses import dataclass, field
from typing import Any, final

from ode_runner.solvers.stochastic import StratonovichRungeKutta
from ode_runner.solvers.tableau import Point
from ode_runner.types import State


@final
@dataclass(frozen=True, kw_only=True)
class MidpointSDE(StratonovichRungeKutta):
    """The explicit midpoint rule for drift dt + diffusion dW: strong order 1 with commutative noise, 1/2 with general.

    Two evaluations per step.

    Kloeden, Platen. Numerical Solution of Stochastic Differential Equations. Springer 1992, 11.1.
    """

    order: int = field(default=1, init=False)

    def advance(self, rise: Any, t0: Point, dt: Point, y0: State, first: State) -> State:
        return y0 + rise(t0 + dt / 2, y0 + first / 2)
