"""A price on how a field changes with the state."""

from typing import final

from torch import Tensor

from ode_runner.integral import Pull
from ode_runner.regularizers.base import squares
from ode_runner.regularizers.estimates import EstimatedRegularizer
from ode_runner.types import State, Time


@final
class Jacobian(EstimatedRegularizer):
    """The integral of |df/dy|^2 along a path, the squares of all elements summed, estimated by |e^T df/dy|^2: one
    product an evaluation. Published weights of codes that take the mean over the state are to be divided by its size.

    Finlay, Jacobsen, Nurbekyan, Oberman. How to Train Your Neural ODE: the World of Jacobian and Kinetic
    Regularization. ICML 2020.
    """

    def price(self, t: Time, y: State, dy: State, pull: Pull, *given: Tensor) -> Tensor:
        return squares(pull(given[-1]))
