"""A penalty on the kinetic energy of paths."""

from typing import final

from torch import Tensor

from ode_runner.integral import Integral
from ode_runner.regularizers.base import PathRegularizer, squares
from ode_runner.types import State


@final
class Kinetic(PathRegularizer):
    """The integral of |dy/dt|^2 / 2 along a path, the square summed over the state.

    It is smallest for straight lines at constant speed. It costs neither evaluations nor steps, since step size control
    ignores it. Published weights of codes that average over the state must be divided by its size.

    Finlay, Jacobsen, Nurbekyan, Oberman. How to Train Your Neural ODE: the World of Jacobian and Kinetic
    Regularization. ICML 2020.
    """

    def integral(self, y0: State, *, training: bool) -> Integral:
        return Integral(_energy, judged=False)


def _energy(t: Tensor, y: State, dy: State, *rest: object) -> Tensor:
    """The kinetic energy |f|^2 / 2 of each sample, (batch,)."""
    del t, y, rest
    return 0.5 * squares(dy)
