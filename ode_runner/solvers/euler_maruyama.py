"""Euler and Maruyama's method."""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar, final

import torch

from ode_runner.counted_field import uncounted
from ode_runner.errors import RefusedInput
from ode_runner.field import DenoisingField, StochasticField
from ode_runner.paths.heads import LATEST
from ode_runner.problem import Solution
from ode_runner.solvers.base import FixedStepSolver
from ode_runner.solvers.tableau import time_tensor
from ode_runner.types import State, Times


@final
@dataclass(frozen=True, kw_only=True)
class EulerMaruyama(FixedStepSolver):
    """y1 = y0 + dt drift + diffusion dW, of strong order 1/2, and 1 where the diffusion does not depend on the state.

    Args:
        last_noise: whether there is noise in the last step; None: unless the field is that of a Gaussian path, whose
            samples are better without.

    Maruyama. Continuous Markov processes and stochastic equations. 1955. · Song et al. Score-Based Generative Modeling
    through SDEs. ICLR 2021, for the reverse equation.
    """

    fields: ClassVar[type] = StochasticField
    fields_in_words: ClassVar[str] = (
        "a stochastic field, or that of a Gaussian path, such as that of task=density2d model=exact"
    )
    order: int = field(default=1, init=False)  # in law
    last_noise: bool | None

    @property
    def draws(self) -> bool:
        return True

    def solve(self, field: Any, y0: State, ts: Times) -> Solution:
        own = uncounted(field)
        if of_path := isinstance(own, DenoisingField):
            _check_reverse(own, ts)
        noisy_to_the_end = not of_path if self.last_noise is None else self.last_noise
        y, ys, grids = y0, [y0], self.grids(ts)
        for grid in grids:
            for t0, t1 in pairwise(grid):
                t = time_tensor(t0, y)
                y, before = y + (t1 - t0) * field.drift(t, y), y
                if noisy_to_the_end or grid is not grids[-1] or t1 != grid[-1]:
                    y = y + field.diffusion(t, before) * field.increment(t0, t1, y).w
            ys.append(y)
        return Solution(ys=torch.stack(ys), accepted=sum(len(grid) - 1 for grid in grids))


def _check_reverse(field: DenoisingField, ts: Times) -> None:
    """Raises RefusedInput where the reverse equation of a path is singular at the first time, or run the other way."""
    if ts[-1] > ts[0]:
        raise RefusedInput(
            f"the reverse equation of {type(field.path).__name__} runs from noise to data, and not from "
            f"t = {float(ts[0]):g} to {float(ts[-1]):g}. Use a solver without noise, such as solver=ddim."
        )
    if not torch.isfinite(field.path.squared_diffusion(ts[0])):
        raise RefusedInput(
            f"the reverse equation of {type(field.path).__name__} has infinite noise at t = {float(ts[0]):g}, where "
            f"alpha is 0. Begin at {LATEST} (model.start_time; task.start_time of model=exact), or use solver=ddpm."
        )
