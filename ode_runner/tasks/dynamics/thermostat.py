"""The task of a room with a thermostat."""

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
class Thermostat(HybridSystem):
    """y' = power q - loss (y - outside): the heater q is 1 until the temperature y is `high`, then 0 until it is `low`.

    Between two switches the temperature is an exponential function of time.
    """

    loss_rate: float  # heat loss, in 1 / time
    outside: float  # temperature
    power: float  # of the heater, in temperature / time
    low: float  # the heater is switched on at this temperature
    high: float  # the heater is switched off at this temperature

    names: ClassVar[tuple[str, ...]] = ("y", "q")
    levels: ClassVar[tuple[str, ...]] = ("low", "high")

    def true_field(self) -> VectorField:
        return Room(self.loss_rate, self.outside, self.power)

    def true_event(self) -> Event:
        return Event(Margin(self.low, self.high), direction=-1, reset=Switch(), ends_after=self.events)

    def flow(self, y: State, time: Tensor) -> State:
        temperature, heater = y.unbind(dim=1)
        rest = self.outside + self.power * heater / self.loss_rate
        return torch.stack([rest + (temperature - rest) * (-self.loss_rate * time).exp(), heater], dim=1)

    def time_to_event(self, y: State) -> Tensor:
        temperature, heater = y.unbind(dim=1)
        rest, level = (
            self.outside + self.power * heater / self.loss_rate,
            torch.where(heater > 0.5, self.high, self.low),
        )
        return ((temperature - rest) / (level - rest)).log() / self.loss_rate

    def reset(self, y: State) -> State:
        heater = y[:, 1]
        return torch.stack([torch.where(heater > 0.5, self.high, self.low).to(y), 1 - heater], dim=1)

    def _check(self) -> None:
        super()._check()
        hottest = self.outside + self.power / self.loss_rate if self.loss_rate > 0 else 0.0
        if not self.outside < self.low < self.high < hottest:
            raise RefusedInput(
                f"task.outside={self.outside:g} task.low={self.low:g} task.high={self.high:g} must increase, and stay "
                f"below the {hottest:g} that the heater could keep up, task.outside + task.power / task.loss_rate."
            )
        temperatures, heater = self.box
        if not (self.low < temperatures[0] and temperatures[1] < self.high and heater[0] == heater[1] in (0, 1)):
            raise RefusedInput("task.box must be [[low,high],[q,q]]: temperatures between both levels, and q 0 or 1.")


@final
class Room(VectorField):
    """The equation of the room: maps (y, q) to (power q - loss (y - outside), 0)."""

    batched_time = True
    loss_rate: Tensor
    outside: Tensor
    power: Tensor

    def __init__(self, loss_rate: float, outside: float, power: float) -> None:
        super().__init__()
        for name, value in (("loss_rate", loss_rate), ("outside", outside), ("power", power)):
            self.register_buffer(name, torch.tensor(value, dtype=torch.float64))

    def forward(self, t: Time, y: State) -> State:
        temperature, heater = y.unbind(dim=1)
        slope = self.power * heater - self.loss_rate * (temperature - self.outside)
        return torch.stack([slope, torch.zeros_like(heater)], dim=1)


@final
class Margin(nn.Module):
    """The event function: the distance of the temperature from the level at which the heater is switched."""

    low: Tensor
    high: Tensor

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.register_buffer("low", torch.tensor(low, dtype=torch.float64))
        self.register_buffer("high", torch.tensor(high, dtype=torch.float64))

    def forward(self, t: Tensor, y: State) -> Tensor:
        temperature, heater = y.unbind(dim=1)
        return torch.where(heater > 0.5, self.high - temperature, temperature - self.low)


@final
class Switch(nn.Module):
    """Resets (y, q) to (y, 1 - q)."""

    def forward(self, t: Tensor, y: State) -> State:
        return torch.stack([y[:, 0], 1 - y[:, 1]], dim=1)
