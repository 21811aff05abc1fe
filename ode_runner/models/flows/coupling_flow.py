"""A flow of coupling layers."""

from collections.abc import Iterator
from typing import Any, Literal, final

import torch
from torch.distributions import Transform
from zuko.flows.coupling import GeneralCouplingTransform
from zuko.transforms import AdditiveTransform, MonotonicAffineTransform

from ode_runner.models.flows.discrete_flow import DiscreteFlow, vector_size
from ode_runner.models.flows.flow_layers import ActNorm, FlowLayer
from ode_runner.models.flows.zuko_layers import ZukoLayer, conditioner
from ode_runner.networks.base import Network
from ode_runner.networks.sizes import check_sizes

KINDS: dict[str, tuple[type[Transform], int]] = {  # the transform of a number, and the number of its parameters
    "nice": (AdditiveTransform, 1),
    "realnvp": (MonotonicAffineTransform, 2),
}


@final
class CouplingFlow(DiscreteFlow):
    """`layers` coupling layers: each transforms one half of a vector by functions of the other half, alternately.

    Args:
        kind: `realnvp`: an affine transform with bounded scale. `nice`: a shift, which preserves volume; one learned
            scale per number follows the last layer.
        width: units of a hidden layer of a conditioner.
        depth: hidden layers of a conditioner.
        dropout: dropout probability of its hidden units.

    Dinh, Krueger, Bengio. NICE. 2014. · Dinh, Sohl-Dickstein, Bengio. Density Estimation using Real NVP. ICLR 2017. The
    layers are zuko's.
    """

    def __init__(
        self, network: Network, *, kind: Literal["realnvp", "nice"], layers: int, width: int, depth: int, dropout: float
    ) -> None:
        check_sizes("model", layers=layers, width=width, depth=depth)
        univariate, parameters = KINDS[kind]
        hidden = conditioner(width=width, depth=depth, dropout=dropout)
        options = {"context": network.spec.condition, "univariate": univariate, "shapes": [()] * parameters, **hidden}
        made: list[FlowLayer] = list(_couplings(vector_size(network), layers, options))
        super().__init__(network, [*made, ActNorm(network.spec.input_shape)] if kind == "nice" else made)


def _couplings(size: int, layers: int, options: dict[str, Any]) -> Iterator[FlowLayer]:
    """Layers in pairs, for a random half and the other half; in the plane, both halves alternate without chance."""
    order = torch.arange(size)
    for i in range(layers):
        if i % 2 == 0 and size > 2:
            order = torch.randperm(size)
        yield ZukoLayer(GeneralCouplingTransform(size, mask=order % 2 == i % 2, **options))
