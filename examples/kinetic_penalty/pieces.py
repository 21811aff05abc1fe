"""A price on paths: the integral of |dy/dt|^p, which a straight line at an even pace has least of."""

from torch import Tensor

from ode_runner.integral import Integral
from ode_runner.regularizers.base import PathRegularizer
from ode_runner.types import State


class PowerOfSpeed(PathRegularizer):
    """Joins the loss of training by `weight`. Step control does not judge it, so it costs no step."""

    def __init__(self, *, weight: float, power: float) -> None:
        super().__init__(weight=weight)
        self.power = power

    def integral(self, y0: State, *, training: bool) -> Integral:
        return Integral(self._rate, judged=False)

    def _rate(self, t: Tensor, y: State, dy: State, *rest: object) -> Tensor:
        """Of every sample, (batch,)."""
        return dy.flatten(1).square().sum(dim=1).pow(self.power / 2)
