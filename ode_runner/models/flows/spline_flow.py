"""A spline flow."""

from functools import partial
from typing import final

from zuko.transforms import MonotonicRQSTransform

from ode_runner.models.flows.discrete_flow import DiscreteFlow, vector_size
from ode_runner.models.flows.flow_layers import ActNorm
from ode_runner.models.flows.zuko_layers import autoregressive_layers, conditioner
from ode_runner.networks.base import Network
from ode_runner.networks.sizes import check_sizes

SLOPE = 1e-3  # smallest slope of a spline


@final
class SplineFlow(DiscreteFlow):
    """`layers` autoregressive layers of monotone rational-quadratic splines.

    A spline has `bins` pieces on [-5, 5] and is the identity elsewhere. So a first layer standardises the data.

    Args:
        bins: pieces of a spline.
        width: units of a hidden layer of a conditioner.
        depth: hidden layers of a conditioner.
        dropout: dropout probability of its hidden units.

    Durkan, Bekasov, Murray, Papamakarios. Neural Spline Flows. NeurIPS 2019. The layers are zuko's.
    """

    def __init__(self, network: Network, *, layers: int, bins: int, width: int, depth: int, dropout: float) -> None:
        check_sizes("model", layers=layers, width=width, depth=depth)
        check_sizes("model", least=2, bins=bins)
        spline = {
            "univariate": partial(MonotonicRQSTransform, slope=SLOPE),
            "shapes": [(bins,), (bins,), (bins - 1,)],
            **conditioner(width=width, depth=depth, dropout=dropout),
        }
        made = autoregressive_layers(vector_size(network), network.spec.condition, layers, **spline)
        super().__init__(network, [ActNorm(network.spec.input_shape), *made])
