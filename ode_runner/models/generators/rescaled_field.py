"""The field of one path converted to another path: the denoiser depends on the noise level sigma / alpha only."""

from typing import final

from torch import Tensor

from ode_runner.field import WrappedField, broadcast_time
from ode_runner.models.generators.predicted_field import DoubledField, GuidedField
from ode_runner.paths.base import GaussianPath
from ode_runner.paths.denoising_field import DenoisingField
from ode_runner.types import State, Time


class RescaledField(WrappedField, DenoisingField):
    """A field of x = alpha x_0 + sigma e converted to another path, with the same data at the same sigma / alpha.

    Karras, Aittala, Aila, Laine. Elucidating the Design Space of Diffusion-Based Generative Models. NeurIPS 2022,
    appendix B.
    """

    inner: DenoisingField

    def __init__(self, inner: DenoisingField, *, path: GaussianPath) -> None:
        super().__init__(inner)
        self.path = path

    def denoise(self, t: Time, x: State, *given: Tensor) -> State:
        time = self.time(t)
        scale = self.inner.path.alpha(time) / self.path.alpha(t)
        return self.inner.denoise(time, broadcast_time(scale, x) * x, *given)

    def time(self, t: Tensor) -> Tensor:
        """The time at which the inner field's path has the noise level of this path at `t`."""
        return self.inner.path.time_of_log_snr(self.path.log_snr(t)).clamp(0, 1)


@final
class GuidedRescaledField(RescaledField, DoubledField):
    """A RescaledField of a field whose call counts as two evaluations."""


def rescaled(field: DenoisingField, path: GaussianPath) -> RescaledField:
    """A field along another path."""
    return (GuidedRescaledField if isinstance(field, GuidedField) else RescaledField)(field, path=path)
