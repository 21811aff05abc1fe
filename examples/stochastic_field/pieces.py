"""A network's field driven by noise, dy = f(t, y) dt + s dW, and a solver for such equations."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor

from ode_runner.encoding import Encoding
from ode_runner.field import StochasticField, VectorField
from ode_runner.models.base import Model, Numerics
from ode_runner.networks.base import Network
from ode_runner.noise import BrownianPath, Noise
from ode_runner.problem import Integrate, Solution
from ode_runner.solvers.base import FixedStepSolver
from ode_runner.solvers.tableau import time_tensor
from ode_runner.types import State, Time, Times


class Driven(StochasticField):
    def __init__(self, inner: VectorField, *, scale: float) -> None:
        super().__init__()
        self.inner, self.scale = inner, scale

    def drift(self, t: Time, y: State) -> State:
        return self.inner(t, y)

    def diffusion(self, t: Time, y: State) -> Tensor:
        return torch.full_like(y, self.scale)


class NeuralSDE(Model):
    """An ODE-Net with noise of constant strength. The seed of a solve's noise comes from torch's generator."""

    numerics: ClassVar[Numerics] = Numerics.ANY

    def __init__(self, network: Network, *, scale: float) -> None:
        super().__init__(network)
        self.field, self.head = Driven(network.field(), scale=scale), network.head()

    def evolve(self, y0: Encoding, ts: Times, integrate: Integrate) -> Solution:
        path = BrownianPath(seed=int(torch.randint(2**31, ())), cells=64, depth=10)
        noise = Noise(path=path, samples=torch.arange(len(y0.y0), device=y0.y0.device))
        return integrate(self.field, y0, ts, noise=noise)


@dataclass(frozen=True, kw_only=True)
class EulerMaruyama(FixedStepSolver):
    fields, fields_in_words, order = StochasticField, "a stochastic field", 1

    def solve(self, field: Any, y0: State, ts: Times) -> Solution:
        y, ys, grids = y0, [y0], self.grids(ts)
        for grid in grids:
            for t0, t1 in pairwise(grid):
                t, dw = time_tensor(t0, y), field.driving_noise.increment(t0, t1, y).w
                y = y + (t1 - t0) * field.drift(t, y) + field.diffusion(t, y) * dw
            ys.append(y)
        return Solution(ys=torch.stack(ys), accepted=sum(len(grid) - 1 for grid in grids))
