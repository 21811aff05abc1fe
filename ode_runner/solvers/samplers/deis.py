"""DEIS."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

from ode_runner.errors import RefusedInput
from ode_runner.solvers.samplers.sampler import Denoised, Sampler
from ode_runner.solvers.samplers.sampling_grid import GridName, Level
from ode_runner.types import State


@final
@dataclass(frozen=True, kw_only=True)
class Deis(Sampler):
    """Adams-Bashforth in rho = sigma / alpha: x / alpha grows by the integral of an interpolant of the noise.

    The interpolant uses the last `order` predictions of the noise, fewer in the first steps.

    Zhang, Chen. Fast Sampling of Diffusion Models with Exponential Integrator. ICLR 2023, rhoAB-DEIS.
    """

    usual_grid: ClassVar[GridName] = "quadratic"
    order: int  # 2 or 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.order not in (2, 3):
            raise RefusedInput(f"solver.order={self.order}: deis has order 2 or 3. Order 1 is solver=ddim.")

    def step(self, field: Any, history: list[Denoised], after: Level, *, last: bool) -> State:
        now = history[-1]
        if math.isinf(now.level.rho):
            return now.at(after)
        used = [past for past in history[-self.order :] if math.isfinite(past.level.rho)]
        x = now.at(after)
        weights = integrals_of_interpolants([past.level.rho for past in used], now.level.rho, after.rho)
        for weight, past in zip(weights[:-1], used[:-1], strict=True):
            x = x + after.alpha * weight * (past.eps - now.eps)
        return x


def integrals_of_interpolants(nodes: Sequence[float], begin: float, end: float) -> list[float]:
    """The integral from `begin` to `end` of each Lagrange polynomial of up to four nodes: Simpson's rule is exact."""

    def polynomial(i: int, x: float) -> float:
        return math.prod((x - node) / (nodes[i] - node) for j, node in enumerate(nodes) if j != i)

    middle = (begin + end) / 2
    return [
        (end - begin) / 6 * (polynomial(i, begin) + 4 * polynomial(i, middle) + polynomial(i, end))
        for i in range(len(nodes))
    ]
