"""A penalty on higher derivatives of paths."""

from typing import final

from torch import Tensor

from ode_runner.errors import RefusedInput
from ode_runner.integral import VJP, Integral
from ode_runner.regularizers.base import PathRegularizer, squares
from ode_runner.types import State, Time

MOST = 6  # orders: derivatives are nested, and each doubles the work


@final
class Taylor(PathRegularizer):
    """The integral of |d^K y/dt^K|^2 along a path, the square summed over the state; K is the `order`.

    If it is small, a solver of order K - 1 needs few steps. K = 1 is twice `kinetic`; each higher order adds a
    Jacobian-vector product through all lower ones. Published weights of codes that average over the state must be
    divided by its size.

    Kelly, Bettencourt, Johnson, Duvenaud. Learning Differential Equations that are Easy to Solve. NeurIPS 2020.
    """

    def __init__(self, *, weight: float, order: int) -> None:
        super().__init__(weight=weight)
        if not 1 <= order <= MOST:
            raise RefusedInput(f"regularizer.taylor.order must be from 1 to {MOST}, not {order}.")
        self.order = order

    def integral(self, y0: State, *, training: bool) -> Integral:
        return Integral(self._squared, judged=False)

    def _squared(self, t: Time, y: State, dy: State, vjp: VJP, *given: Tensor) -> Tensor:
        """The squared norm of the derivative for each sample, (batch,)."""
        derivative = dy if self.order == 1 else vjp.path_derivative(self.order)
        return squares(derivative)
