"""A pendulum without friction."""

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from ode_runner.errors import RefusedInput
from ode_runner.field import VectorField
from ode_runner.fields.structured_field import KnownEquation, SeparableField
from ode_runner.tasks.dynamics.trajectories import Trajectories
from ode_runner.types import State, Time


@final
@dataclass(kw_only=True, eq=False)
class Pendulum(Trajectories):
    """theta' = -p, p' = gravity sin theta; energy is conserved with this sign of p as with the opposite one."""

    gravity: float  # over length, in 1 / time^2

    names: ClassVar[tuple[str, ...]] = (r"\theta", "p")
    invariant_name: ClassVar[str] = "energy $H$"

    def true_field(self) -> VectorField:
        return PendulumField(self.gravity)

    def invariant(self, y: Tensor) -> Tensor:
        """H = p^2 / 2 - gravity cos theta."""
        theta, p = y.unbind(dim=-1)
        return p.square() / 2 - self.gravity * theta.cos()

    def _check(self) -> None:
        super()._check()
        if self.gravity <= 0:
            raise RefusedInput(f"task.gravity must be positive, not {self.gravity}.")


@final
class PendulumField(SeparableField, KnownEquation):
    """Maps (theta, p) to (-p, gravity sin theta)."""

    batched_time = True
    numbers = ("gravity",)

    def __init__(self, gravity: float) -> None:
        super().__init__()
        self.gravity = gravity

    def drift(self, t: Time, p: State) -> State:
        return -p

    def kick(self, t: Time, q: State) -> State:
        return self.gravity * q.sin()
