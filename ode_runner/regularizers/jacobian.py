"""A penalty on the Jacobian of a field."""

from typing import final

from torch import Tensor

from ode_runner.integral import VJP
from ode_runner.regularizers.base import squares
from ode_runner.regularizers.estimates import EstimatedRegularizer
from ode_runner.types import State, Time


@final
class Jacobian(EstimatedRegularizer):
    """The integral of the squared Frobenius norm |df/dy|^2 along a path, estimated by |e^T df/dy|^2.

    This takes one vector-Jacobian product per evaluation. Published weights of codes that average over the state must
    be divided by its size.

    Finlay, Jacobsen, Nurbekyan, Oberman. How to Train Your Neural ODE: the World of Jacobian and Kinetic
    Regularization. ICML 2020.
    """

    def integrand(self, t: Time, y: State, dy: State, vjp: VJP, *given: Tensor) -> Tensor:
        return squares(vjp(given[-1]))
