"""An autoregressive flow."""

from typing import Literal, final

from ode_runner.models.flows.discrete_flow import DiscreteFlow, vector_size
from ode_runner.models.flows.flow_layers import Inverted
from ode_runner.models.flows.zuko_layers import autoregressive_layers, conditioner
from ode_runner.networks.base import Network
from ode_runner.networks.sizes import check_sizes


@final
class AutoregressiveFlow(DiscreteFlow):
    """`layers` affine autoregressive layers, which alternate between the order of numbers and the reverse order.

    Args:
        kind: `maf`: a density takes one pass, a sample as many passes as it has numbers. `iaf`, the inverse: a sample
            takes one pass, a density, and so a training step, as many passes as there are numbers.
        width: units of a hidden layer of a conditioner.
        depth: hidden layers of a conditioner.
        dropout: dropout probability of its hidden units.

    Papamakarios, Pavlakou, Murray. Masked Autoregressive Flow for Density Estimation. NeurIPS 2017. · Kingma, Salimans,
    Jozefowicz, Chen, Sutskever, Welling. Improving Variational Inference with Inverse Autoregressive Flow. NeurIPS
    2016. The layers are zuko's.
    """

    def __init__(
        self, network: Network, *, kind: Literal["maf", "iaf"], layers: int, width: int, depth: int, dropout: float
    ) -> None:
        check_sizes("model", layers=layers, width=width, depth=depth)
        hidden = conditioner(width=width, depth=depth, dropout=dropout)
        made = autoregressive_layers(vector_size(network), network.spec.condition, layers, **hidden)
        super().__init__(network, [Inverted(layer) for layer in made] if kind == "iaf" else made)
