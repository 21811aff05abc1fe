"""The field of a Gaussian path, from a network's prediction along it."""

from collections.abc import Mapping
from typing import ClassVar, final

import torch
from torch import Tensor

from ode_runner.field import VectorField, WrappedField, broadcast_time
from ode_runner.paths.base import GaussianPath
from ode_runner.paths.denoising_field import DenoisingField
from ode_runner.paths.heads import Head, to_velocity, to_x0
from ode_runner.types import State, Time


@final
class PredictedField(WrappedField, DenoisingField):
    """The field of a path, for which the function `inner` predicts one head; it is trained at the times of `span`."""

    def __init__(
        self, inner: VectorField, *, path: GaussianPath, head: Head, span: tuple[float, float] = (0.0, 1.0)
    ) -> None:
        super().__init__(inner)
        self.path, self.head, self.span = path, head, span

    def forward(self, t: Time, y: State, *given: Tensor) -> State:
        return to_velocity(self.path, self.head, broadcast_time(t, y), y, self.inner(t, y, *given))

    def denoise(self, t: Time, x: State, *given: Tensor) -> State:
        return to_x0(self.path, self.head, broadcast_time(t, x), x, self.inner(t, x, *given))


class DoubledField(DenoisingField):
    """A kind of field that is evaluated on a batch of twice the size; a call counts as two evaluations."""

    call_weights: ClassVar[Mapping[str, float]] = {"forward": 2, "denoise": 2, "drift": 2, "diffusion": 0}


@final
class GuidedField(WrappedField, DoubledField):
    """f_0 + w (f_c - f_0), where f_c is the field with condition c, and f_0 the field with a condition of zeros.

    Both are evaluated in one batch. The formula is the same for velocities, denoised data and scores.

    Args:
        inner: a field that takes one condition.
        scale: w; 1 is the field given the condition itself.

    Ho, Salimans. Classifier-Free Diffusion Guidance. 2022, whose weight is w - 1.
    """

    inner: DenoisingField

    def __init__(self, inner: DenoisingField, *, scale: float) -> None:
        super().__init__(inner)
        self.path, self.scale = inner.path, scale

    def forward(self, t: Time, y: State, *given: Tensor) -> State:
        return self._guided(self.inner(*_doubled(t, y, *given)))

    def denoise(self, t: Time, x: State, *given: Tensor) -> State:
        return self._guided(self.inner.denoise(*_doubled(t, x, *given)))

    def _guided(self, both: Tensor) -> Tensor:
        free, conditional = both.chunk(2)
        return torch.lerp(free, conditional, self.scale)


def _doubled(t: Time, y: State, condition: Tensor) -> tuple[Time, State, Tensor]:
    """The batch with conditions of zeros, followed by the batch with its conditions."""
    conditions = torch.cat([torch.zeros_like(condition), condition])
    return (torch.cat([t, t]) if t.dim() else t), torch.cat([y, y]), conditions
