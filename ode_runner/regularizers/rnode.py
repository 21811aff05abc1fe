"""The penalty of RNODE."""

from typing import final

from torch import Tensor

from ode_runner.integral import VJP
from ode_runner.regularizers.base import squares
from ode_runner.regularizers.estimates import EstimatedRegularizer
from ode_runner.types import State, Time


@final
class RNODE(EstimatedRegularizer):
    """`kinetic` and `jacobian` combined, with equal weights: |dy/dt|^2 / 2 + |e^T df/dy|^2 along a path.

    This takes one vector-Jacobian product per evaluation. For separate weights: regularizer=[kinetic,jacobian].

    Finlay, Jacobsen, Nurbekyan, Oberman. How to Train Your Neural ODE: the World of Jacobian and Kinetic
    Regularization. ICML 2020.
    """

    def integrand(self, t: Time, y: State, dy: State, vjp: VJP, *given: Tensor) -> Tensor:
        return 0.5 * squares(dy) + squares(vjp(given[-1]))
