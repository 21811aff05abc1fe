"""The base class of models with a log density and samples."""

import abc
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ode_runner.batch import Drawn, TaskSpec
from ode_runner.encoding import Encoding
from ode_runner.errors import IncompatibleChoice
from ode_runner.integral import VJP, trace
from ode_runner.models.base import Model
from ode_runner.networks.base import Network
from ode_runner.problem import Integrate
from ode_runner.types import State, Time, Times

GROUP = 16  # normal numbers that PyTorch draws at a time on a CPU
TRACE = "trace"  # the name of the integral of tr df/dy


class DensityModel(Model, abc.ABC):
    """A model whose output is the log density of its inputs, in nats, in the units of the inputs."""

    @abc.abstractmethod
    def sample(self, count: int, ts: Times, integrate: Integrate, *, given: Sequence[Tensor] = ()) -> Drawn:
        """`count` samples and their log density, drawn by torch's global generator.

        `ts` run from the data to the base distribution, as for a log density; the samples' path runs backwards through
        them. `given` are the conditions (count, condition), if the density depends on a condition.
        """


def data_shape(network: Network) -> tuple[int, ...]:
    """The shape of the state of a model whose state is the data.

    Raises:
        IncompatibleChoice: the network turns its inputs into features.
    """
    if not network.state_is_input:
        raise IncompatibleChoice(
            f"this model moves the data themselves, {math.prod(network.spec.input_shape)} numbers each, but this "
            "network turns them into features. Use network=mlp or concatsquash, with at least that network.width; a "
            "network of your own whose stem leaves inputs unchanged declares state_is_input = True."
        )
    return tuple(network.stem()(torch.zeros(1, *network.spec.input_shape)).shape[1:])


def base_samples(count: int, shape: Sequence[int], ts: Times) -> State:
    """`count` standard normal samples (count, *shape), by torch's global generator; on a CPU, the first of more.

    PyTorch draws fewer numbers than GROUP in another way, and an incomplete last group anew.
    """
    whole = -(-count // GROUP) * GROUP
    return torch.randn(whole, *shape, device=ts.device)[:count].to(ts.dtype)


def encode_data(stem: nn.Module, inputs: Tensor, spec: TaskSpec) -> Encoding:
    """The data, shaped by the stem, as the state; the condition that follows them in the inputs, if any, as given."""
    if not spec.condition:
        return Encoding(stem(inputs))
    data, condition = spec.split_condition(inputs)
    return Encoding(stem(data), (condition,))


def normal_log_density(y: State) -> Tensor:
    """The log density of the standard normal distribution, (batch,)."""
    return -0.5 * (y.square() + math.log(2 * math.pi)).flatten(1).sum(dim=1)


def exact_trace(t: Time, y: State, dy: State, vjp: VJP, *given: Tensor) -> Tensor:
    """The integrand tr df/dy, (batch,)."""
    del t, dy, given
    return trace(y, vjp)
