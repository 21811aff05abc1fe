"""A penalty on the change of states between outputs."""

from typing import final

from torch import Tensor

from ode_runner.regularizers.base import Regularizer
from ode_runner.regularizers.depth_varying import Layered
from ode_runner.types import Times, Trajectory


@final
class SmoothStates(Regularizer):
    """sum |y(t_k+1) - y(t_k)|^2 / |t_k+1 - t_k| over the outputs of a solve, the squares summed over the state.

    This is the smallest possible integral of |dy/dt|^2 (twice `kinetic`) for a path through these states; between two
    outputs, the path is free. It needs no integral along the solve, so that it works with every solver and with
    compiled steps. For a model of layers, the states are those between them, at unit distance in depth.

    Our own.
    """

    @classmethod
    def is_used(cls, model: type, *, solves: bool) -> bool:
        return solves or issubclass(model, Layered)

    def of_states(self, ts: Times, ys: Trajectory) -> Tensor:
        spans = ts.diff().abs()
        moved = ys.flatten(2).diff(dim=0).square().sum(dim=2)[spans > 0]
        return (moved / spans[spans > 0, None]).sum(dim=0)
