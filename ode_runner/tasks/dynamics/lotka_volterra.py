"""The Lotka-Volterra predator-prey system."""

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from ode_runner.errors import RefusedInput
from ode_runner.field import VectorField
from ode_runner.fields.structured_field import KnownEquation
from ode_runner.tasks.dynamics.trajectories import Trajectories
from ode_runner.types import State, Time


@final
@dataclass(kw_only=True, eq=False)
class LotkaVolterra(Trajectories):
    """x' = alpha x - beta x y, y' = delta x y - gamma y: closed orbits around (gamma / delta, alpha / beta).

    Lotka. Elements of Physical Biology. 1925. Volterra. Nature 118, 1926.
    """

    alpha: float  # growth of the prey x
    beta: float  # rate at which a predator removes prey
    gamma: float  # death of the predators y
    delta: float  # predators born per prey

    names: ClassVar[tuple[str, ...]] = ("x", "y")
    invariant_name: ClassVar[str] = "invariant $V$"

    def true_field(self) -> VectorField:
        return LotkaVolterraField(self.alpha, self.beta, self.gamma, self.delta)

    def invariant(self, y: Tensor) -> Tensor:
        """V = delta x - gamma ln x + beta y - alpha ln y."""
        prey, predators = y.clamp_min(1e-12).unbind(dim=-1)  # outside of the quadrant: a large drift instead of NaN
        return self.delta * prey - self.gamma * prey.log() + self.beta * predators - self.alpha * predators.log()

    def _check(self) -> None:
        super()._check()
        for name in ("alpha", "beta", "gamma", "delta"):
            if getattr(self, name) <= 0:
                raise RefusedInput(f"task.{name} must be positive, not {getattr(self, name)}.")
        if min(*self.y0, *(side[0] for side in self.box)) <= 0:
            raise RefusedInput("task.y0 and task.box must be of positive numbers: they count animals.")


@final
class LotkaVolterraField(KnownEquation):
    """The equations of `LotkaVolterra`."""

    batched_time = True
    numbers = ("alpha", "beta", "gamma", "delta")

    def __init__(self, alpha: float, beta: float, gamma: float, delta: float) -> None:
        super().__init__()
        self.alpha, self.beta, self.gamma, self.delta = alpha, beta, gamma, delta

    def forward(self, t: Time, y: State) -> State:
        prey, predators = y.unbind(dim=-1)
        met = prey * predators
        return torch.stack([self.alpha * prey - self.beta * met, self.delta * met - self.gamma * predators], dim=-1)
