"""The task of a ball that falls and bounces."""

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from ode_runner.errors import RefusedInput
from ode_runner.event import Event
from ode_runner.field import VectorField
from ode_runner.tasks.dynamics.hybrid_system import HybridSystem
from ode_runner.types import State, Time


@final
@dataclass(kw_only=True, eq=False)
class BouncingBall(HybridSystem):
    """height'' = -gravity; at height = radius, the speed is reversed and multiplied by `restitution`.

    From rest at height h, impacts are at t_k = t_1 (1 + 2 (e + ... + e^(k-1))) with e the restitution and t_1^2 = 2 (h
    - radius) / gravity. Event times alone therefore determine restitution, and one of h, radius and gravity if the
    other two are known.
    """

    gravity: float
    radius: float
    restitution: float  # the share of the speed that is kept

    names: ClassVar[tuple[str, ...]] = ("h", "v")
    levels: ClassVar[tuple[str, ...]] = ("radius",)

    def true_field(self) -> VectorField:
        return Fall(self.gravity)

    def true_event(self) -> Event:
        return Event(Height(self.radius), direction=-1, reset=Bounce(self.restitution), ends_after=self.events)

    def flow(self, y: State, time: Tensor) -> State:
        height, speed = y.unbind(dim=1)
        return torch.stack(
            [height + speed * time - self.gravity * time.square() / 2, speed - self.gravity * time], dim=1
        )

    def time_to_event(self, y: State) -> Tensor:
        height, speed = y.unbind(dim=1)
        return (speed + (speed.square() + 2 * self.gravity * (height - self.radius)).sqrt()) / self.gravity

    def reset(self, y: State) -> State:
        return torch.stack([torch.full_like(y[:, 0], self.radius), -self.restitution * y[:, 1]], dim=1)

    def _check(self) -> None:
        super()._check()
        for name in ("gravity", "radius", "restitution"):
            if not getattr(self, name) > 0:
                raise RefusedInput(f"task.{name} must be positive, not {getattr(self, name)}.")
        if not self.box[0][0] > self.radius:
            raise RefusedInput(
                f"task.box begins at a height of {self.box[0][0]:g}, within task.radius={self.radius:g}."
            )


@final
class Fall(VectorField):
    """Maps (h, v) to (v, -gravity)."""

    batched_time = True
    gravity: Tensor

    def __init__(self, gravity: float) -> None:
        super().__init__()
        self.register_buffer("gravity", torch.tensor(gravity, dtype=torch.float64))

    def forward(self, t: Time, y: State) -> State:
        return torch.stack([y[:, 1], -self.gravity * torch.ones_like(y[:, 0])], dim=1)


@final
class Height(nn.Module):
    """The event function: the height of the ball's lowest point."""

    radius: Tensor

    def __init__(self, radius: float) -> None:
        super().__init__()
        self.register_buffer("radius", torch.tensor(radius, dtype=torch.float64))

    def forward(self, t: Tensor, y: State) -> Tensor:
        return y[:, 0] - self.radius


@final
class Bounce(nn.Module):
    """Resets (h, v) to (h, -restitution v)."""

    restitution: Tensor

    def __init__(self, restitution: float) -> None:
        super().__init__()
        self.register_buffer("restitution", torch.tensor(restitution, dtype=torch.float64))

    def forward(self, t: Tensor, y: State) -> State:
        return torch.stack([y[:, 0], -self.restitution * y[:, 1]], dim=1)
