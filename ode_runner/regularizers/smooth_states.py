"""A price on the change of states from output to output."""

from typing import final

from torch import Tensor

from ode_runner.regularizers.base import Regularizer
from ode_runner.regularizers.depth_varying import Layered
from ode_runner.types import Times, Trajectory


@final
class SmoothStates(Regularizer):
    """sum |y(t_k+1) - y(t_k)|^2 / |t_k+1 - t_k| over the outputs of a solve, the squares summed over the state.

    No path through these states has a smaller integral of |dy/dt|^2, twice `kinetic`; what lies between two outputs is
    free. Needs no integral along the solve, so it goes with every solver and with compiled steps. Of a model of layers
    the states are those between them, a unit of depth apart.

    Our own.
    """

    @classmethod
    def is_used(cls, model: type, *, solves: bool) -> bool:
        return solves or issubclass(model, Layered)

    def of_states(self, ts: Times, ys: Trajectory) -> Tensor:
        spans = ts.diff().abs()
        moved = ys.flatten(2).diff(dim=0).square().sum(dim=2)[spans > 0]
        return (moved / spans[spans > 0, None]).sum(dim=0)
