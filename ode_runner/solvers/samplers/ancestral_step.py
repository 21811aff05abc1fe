"""The step of ancestral sampling, which several samplers use."""

import math
from typing import Any

from ode_runner.solvers.samplers.sampler import Denoised, standard_normal
from ode_runner.solvers.samplers.sampling_grid import Level
from ode_runner.types import State


def ancestral(field: Any, now: Denoised, after: Level, *, eta: float) -> State:
    """A step of ancestral sampling."""
    shrunk = after.rho / now.level.rho  # e^-h
    q = eta * after.sigma * math.sqrt(1 - shrunk**2)
    mean = after.alpha * now.x0 + math.sqrt(after.sigma**2 - q**2) * now.eps
    return mean + q * standard_normal(field, now.level.t, after.t, now.x) if q else mean
