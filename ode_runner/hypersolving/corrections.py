"""Networks that correct the steps of a hypersolver."""

from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

from ode_runner.hypersolving.residuals import Residuals
from ode_runner.solvers.hypersolver import Correction
from ode_runner.types import State, Time

SHORTEST = 1e-12  # a step between two equal output times has length 0
CHANNELS = 1  # axis of the channels of an image state (batch, channel, height, width)


@final
class StateCorrection(Correction):
    """A correction that reads time, step, state and derivative, scaled to unit variance; at first it is zero.

    Images are read by three convolutions of 3x3, all other states along their last axis by three linear layers. Given
    tensors are read, too, if they are floating-point and have the axes of the state.
    """

    shift: Tensor
    scale: Tensor
    size: Tensor

    def __init__(self, *, features: int, outputs: int, width: int, of_images: bool, cost: float = 0.0) -> None:
        """A new correction.

        Args:
            features: length of the axis of features (channels, or the last one) of all that it reads.
            outputs: length of this axis of the state.
            width: the width of the hidden layers.
            of_images: whether states are (batch, channel, height, width).
            cost: of a call, in evaluations of the field.
        """
        super().__init__()
        self.sizes = {"features": features, "outputs": outputs, "width": width, "of_images": of_images}
        self.axis = CHANNELS if of_images else -1
        self.network = _convolutions(features, outputs, width) if of_images else _dense(features, outputs, width)
        for parameter in self.network[-1].parameters():
            nn.init.zeros_(parameter)
        self.register_buffer("shift", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.register_buffer("size", torch.ones(()))
        self.cost = cost

    @classmethod
    def for_residuals(cls, data: Residuals, *, width: int) -> "StateCorrection":
        """A new correction for the states of these residuals, scaled by them."""
        of_images = data.y.dim() == 4
        axis = CHANNELS if of_images else -1
        read = _read(data.t, data.dt, data.y, data.dy, data.given, axis)
        made = cls(features=read.shape[axis], outputs=data.y.shape[axis], width=width, of_images=of_images)
        each = read.movedim(axis, -1).flatten(0, -2)
        made.shift.copy_(each.mean(dim=0))
        spread = each.std(dim=0, correction=0)
        made.scale.copy_(spread.where(spread > 0, 1.0))  # a single time step has none
        made.size.copy_(data.error.square().mean().sqrt())
        return made

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "StateCorrection":
        """The correction whose `state` this is."""
        made = cls(**state["sizes"], cost=state["cost"])
        made.load_state_dict(state["weights"])
        return made

    def state(self) -> dict[str, Any]:
        """Sizes, cost and weights, from which `from_state` makes it again."""
        return {"sizes": self.sizes, "cost": self.cost, "weights": self.state_dict()}

    def forward(self, t: Time, dt: Time, y: State, dy: State, *given: Tensor) -> State:
        read, shape = _read(t, dt, y, dy, given, self.axis), [1] * y.dim()
        shape[self.axis] = -1
        return self.size * self.network((read - self.shift.view(shape)) / self.scale.view(shape))


def _read(t: Time, dt: Time, y: State, dy: State, given: Sequence[Tensor], axis: int) -> Tensor:
    """State, derivative, given tensors, time and logarithm of the step's length, along the axis of features."""
    rest, length = y.narrow(axis, 0, 1), dt.abs().clamp_min(SHORTEST)
    like = [z for z in given if z.is_floating_point() and z.dim() == y.dim()]
    more = [z for z in like if z.narrow(axis, 0, 1).shape == rest.shape]
    times = [time.to(y.dtype).reshape(-1, *[1] * (y.dim() - 1)).expand_as(rest) for time in (t, length.log())]
    return torch.cat([y, dy, *more, *times], dim=axis)


def _dense(features: int, outputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(features, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, outputs)
    )


def _convolutions(features: int, outputs: int, width: int) -> nn.Sequential:
    def layer(inputs: int, outputs: int) -> nn.Conv2d:
        return nn.Conv2d(inputs, outputs, 3, padding=1)

    return nn.Sequential(layer(features, width), nn.PReLU(), layer(width, width), nn.PReLU(), layer(width, outputs))
