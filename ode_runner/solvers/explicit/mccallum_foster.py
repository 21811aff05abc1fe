"""The coupling that makes any explicit Runge-Kutta method of fixed step reversible."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, final

from ode_runner.errors import RefusedInput
from ode_runner.field import VectorField
from ode_runner.solvers.reversible import Carried, ReversibleSolver
from ode_runner.solvers.runge_kutta import FixedStepRungeKutta
from ode_runner.solvers.tableau import time_tensor
from ode_runner.types import State


@final
@dataclass(frozen=True, kw_only=True)
class McCallumFoster(ReversibleSolver):
    """The order of `base` with twice its evaluations; carries y and a second state z, by steps of `base` in both ways.

    `coupling` pulls y towards z. A value below 1 makes the method stable, but reversing n steps amplifies rounding by
    coupling ** -n, so it should be close to 1. The step size is that of this solver, not of `base`.

    McCallum, Foster. Efficient, Accurate and Stable Gradients for Neural ODEs. arXiv 2410.11648, 2024.
    """

    instead: ClassVar[str] = "a smaller solver.coupling or solver=rk4"

    base: FixedStepRungeKutta
    coupling: float
    order: int = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.coupling <= 1:
            raise RefusedInput(f"solver.coupling must be above 0 and at most 1, not {self.coupling}.")
        object.__setattr__(self, "order", self.base.order)

    def unused_options(self) -> Mapping[str, str]:
        return dict.fromkeys(("base.num_steps", "base.step_size"), "the grid is the coupling's, by solver.num_steps")

    def begin(self, field: VectorField, t0: float, y0: State) -> Carried:
        return y0, y0

    def reversible_step(self, field: VectorField, t0: float, t1: float, carried: Carried) -> Carried:
        y0, z0 = carried
        y1 = self._base_step(field, t0, t1, z0) + self.coupling * (y0 - z0)
        return y1, z0 + (y1 - self._base_step(field, t1, t0, y1))

    def reverse_step(self, field: VectorField, t0: float, t1: float, carried: Carried) -> Carried:
        y1, z1 = carried
        z0 = z1 - (y1 - self._base_step(field, t1, t0, y1))
        return z0 + (y1 - self._base_step(field, t0, t1, z0)) / self.coupling, z0

    def _base_step(self, field: VectorField, t0: float, t1: float, y0: State) -> State:
        return self.base.step(field, t0, t1, y0, field(time_tensor(t0, y0), y0))[0]
