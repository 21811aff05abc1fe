"""Adams multistep methods on a fixed grid, by torchdiffeq."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

import torch
import torchdiffeq
from torch import Tensor

from ode_runner.errors import IncompatibleChoice, RefusedInput
from ode_runner.field import VectorField
from ode_runner.problem import Solution
from ode_runner.solvers.base import FixedStepSolver
from ode_runner.solvers.packed_field import solve_packed
from ode_runner.types import State, Times

ORDERS = {"explicit_adams": 3, "implicit_adams": 4}
SAME = 1e-6  # relative difference of step sizes that is ignored: times converted from lower precision have it


@final
@dataclass(frozen=True, kw_only=True)
class Adams(FixedStepSolver):
    """Adams-Bashforth (`explicit_adams`) or Adams-Bashforth-Moulton (`implicit_adams`), started by the 3/8 rule.

    The coefficients hold for equal steps: if output times change the step size, the method restarts.
    Uses up to `max_order - 1` past derivatives. The corrector of `implicit_adams` iterates until its change is
    within `rtol` and `atol`, four times at most, so its evaluations cannot be predicted.

    Hairer, Norsett, Wanner. Solving Ordinary Differential Equations I. Springer 1993, III.1.
    """

    kind: ClassVar[str] = "multistep"
    method: Literal["explicit_adams", "implicit_adams"]
    order: int  # of the solution; set in the yaml of each `method`
    max_order: int
    rtol: float
    atol: float

    @property
    def shown_name(self) -> str:
        return f"solver={self.method}"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.order != ORDERS[self.method]:
            raise RefusedInput(
                f"solver={self.method} is of order {ORDERS[self.method]}, and not {self.order}: choose it by that name "
                "alone, and leave solver.order and solver.method out."
            )
        if not 4 <= self.max_order <= 12:
            raise RefusedInput(f"solver.max_order must be from 4 to 12, not {self.max_order}.")
        for name in ("rtol", "atol"):
            if not 0 < getattr(self, name) < math.inf:
                raise RefusedInput(f"solver.{name} must be positive, not {getattr(self, name)}.")

    def unused_options(self) -> Mapping[str, str]:
        explicit = self.method == "explicit_adams"
        return dict.fromkeys(("rtol", "atol"), "explicit_adams has no corrector") if explicit else {}

    def check_integrals(self) -> None:
        """Integrals are appended to the state, where the corrector's tolerance applies to them, too."""
        if self.method == "implicit_adams":
            raise IncompatibleChoice(
                "implicit_adams corrects all that it solves for until it is within tolerance, and has no rule for "
                "integrals along a solve. Use solver=explicit_adams, or dopri5."
            )

    def solve(self, field: VectorField, y0: State, ts: Times) -> Solution:
        return solve_packed(self._solve, field, y0, ts)

    def _solve(self, field: VectorField, y0: State, ts: Times) -> Solution:
        times, indices = torch.unique_consecutive(ts, return_inverse=True)  # repeated times are solved once
        ys, steps = [y0], 0
        for grids in _runs(self.grids(times), rounding=8 * torch.finfo(ts.dtype).eps):
            grid = y0.new_tensor([grids[0][0], *(t for part in grids for t in part[1:])])
            outputs = y0.new_tensor([grids[0][0], *(part[-1] for part in grids)])
            ys += self._run(field, ys[-1], outputs, grid)[1:]
            steps += len(grid) - 1
        return Solution(ys=torch.stack(ys)[indices], accepted=steps)

    def _run(self, field: VectorField, y0: State, outputs: Times, grid: Tensor) -> list[State]:
        options: dict[str, Any] = {"grid_constructor": lambda *_: grid, "max_order": self.max_order}
        with warnings.catch_warnings():
            # A corrector that stops early is less accurate, not wrong; a test of the order bounds the effect.
            warnings.filterwarnings("ignore", "Functional iteration did not converge")
            ys = torchdiffeq.odeint(
                field, y0, outputs, method=self.method, rtol=self.rtol, atol=self.atol, options=options
            )
        return list(ys)


def _runs(grids: Sequence[list[float]], *, rounding: float) -> list[list[list[float]]]:
    """Groups of successive grids with the same step size; `rounding` is the relative rounding error of the times."""
    runs: list[list[list[float]]] = []
    for grid in grids:
        if runs and _alike(runs[-1][0], grid, rounding):
            runs[-1].append(grid)
        else:
            runs.append([grid])
    return runs


def _alike(one: list[float], other: list[float], rounding: float) -> bool:
    """Whether two grids of equal steps have the same step size, up to this relative rounding of the times."""
    steps = [(grid[-1] - grid[0]) / (len(grid) - 1) for grid in (one, other)]
    doubts = [rounding * max(abs(grid[0]), abs(grid[-1])) / (len(grid) - 1) for grid in (one, other)]
    return abs(steps[0] - steps[1]) <= max(sum(doubts), SAME * abs(steps[0]))
