"""What a model is that gives a log density and samples of it."""

import abc
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ode_runner.batch import Drawn, TaskSpec
from ode_runner.encoding import Encoding
from ode_runner.errors import IncompatibleChoice
from ode_runner.integral import Pull, trace
from ode_runner.models.base import Model
from ode_runner.networks.base import Network
from ode_runner.problem import Integrate
from ode_runner.types import State, Time, Times

TRACE = "trace"  # the name of the integral of tr df/dy


class DensityModel(Model, abc.ABC):
    """Answers with the log density of its inputs, in nats, in the units of the inputs."""

    @abc.abstractmethod
    def sample(self, count: int, ts: Times, integrate: Integrate, *, given: Sequence[Tensor] = ()) -> Drawn:
        """`count` samples and their log density, by torch's generator.

        `ts` run from the data to the base law, as they do for a log density; the path comes back through them. `given`
        is the condition of each, (count, condition), where the density depends on one.
        """


def data_shape(network: Network) -> tuple[int, ...]:
    """The shape of the state that a model of data moves.

    Raises:
        IncompatibleChoice: the network makes features of its inputs.
    """
    if not network.state_is_input:
        raise IncompatibleChoice(
            f"this model moves the data themselves, {math.prod(network.spec.input_shape)} numbers each, but this "
            "network turns them into features. Use network=mlp or concatsquash, with at least that network.width; a "
            "network of your own whose stem leaves inputs unchanged declares state_is_input = True."
        )
    return tuple(network.stem()(torch.zeros(1, *network.spec.input_shape)).shape[1:])


def encode_data(stem: nn.Module, inputs: Tensor, spec: TaskSpec) -> Encoding:
    """The data, as the stem shapes them, and the condition that stands behind them, if one does, as given."""
    if not spec.condition:
        return Encoding(stem(inputs))
    data, condition = spec.parted(inputs)
    return Encoding(stem(data), (condition,))


def normal_log_density(y: State) -> Tensor:
    """The log density of the standard normal distribution, (batch,)."""
    return -0.5 * (y.square() + math.log(2 * math.pi)).flatten(1).sum(dim=1)


def exact_trace(t: Time, y: State, dy: State, pull: Pull, *given: Tensor) -> Tensor:
    """The integrand tr df/dy, (batch,)."""
    del t, dy, given
    return trace(y, pull)
