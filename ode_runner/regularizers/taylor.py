"""A price on higher derivatives of paths."""

from typing import final

from torch import Tensor

from ode_runner.errors import RefusedInput
from ode_runner.integral import Integral, Pull
from ode_runner.regularizers.base import PathRegularizer, squares
from ode_runner.types import State, Time

MOST = 6  # orders: derivatives nested in each other, each of which doubles the work


@final
class Taylor(PathRegularizer):
    """The integral of |d^K y/dt^K|^2 along a path, the square summed over the state, K being the `order`: a solver of
    order K - 1 has an easy time where it is small. K = 1 is twice `kinetic`; every order more takes a product with the
    Jacobian of all that is below it. Published weights of codes that take the mean over the state are to be divided by
    its size.

    Kelly, Bettencourt, Johnson, Duvenaud. Learning Differential Equations that are Easy to Solve. NeurIPS 2020.
    """

    def __init__(self, *, weight: float, order: int) -> None:
        super().__init__(weight=weight)
        if not 1 <= order <= MOST:
            raise RefusedInput(f"regularizer.taylor.order must be from 1 to {MOST}, not {order}.")
        self.order = order

    def integral(self, y0: State, *, training: bool) -> Integral:
        return Integral(self._squared, judged=False)

    def _squared(self, t: Time, y: State, dy: State, pull: Pull, *given: Tensor) -> Tensor:
        """The squared norm of the derivative of every sample, (batch,)."""
        derivative = dy if self.order == 1 else pull.path_derivative(self.order)
        return squares(derivative)
