"""A price on the length and the pace of paths."""

from typing import final

from torch import Tensor

from ode_runner.integral import Integral
from ode_runner.regularizers.base import PathRegularizer, squares
from ode_runner.types import State


@final
class Kinetic(PathRegularizer):
    """The integral of |dy/dt|^2 / 2 along a path, the square summed over the state, which straight lines at an even
    pace have least of. Costs no evaluation and no step, for step control does not judge it.

    Published weights of codes that take the mean over the state are to be divided by its size.

    Finlay, Jacobsen, Nurbekyan, Oberman. How to Train Your Neural ODE: the World of Jacobian and Kinetic
    Regularization. ICML 2020.
    """

    def integral(self, y0: State, *, training: bool) -> Integral:
        return Integral(_energy, judged=False)


def _energy(t: Tensor, y: State, dy: State, *rest: object) -> Tensor:
    """The kinetic energy |f|^2 / 2 of every sample, (batch,)."""
    del t, y, rest
    return 0.5 * squares(dy)
