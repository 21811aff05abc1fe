"""The interface of networks for models of tokens."""

import abc

from ode_runner.batch import TaskSpec
from ode_runner.errors import IncompatibleChoice
from ode_runner.field import VectorField
from ode_runner.networks.attention import Layer
from ode_runner.networks.base import Network


class TokenNetwork(Network):
    """A network whose inputs are tokens: integers (batch, positions) below a vocabulary size."""

    takes_tokens = True
    causal: bool  # no position sees a later one
    depth: int  # layers of a field

    @abc.abstractmethod
    def denoiser(self, *, symbols: int, outputs: int, given: int = 0) -> VectorField:
        """f(t, x, *given): `outputs` numbers for each position, (batch, positions, outputs), such as logits.

        `x` are integers (batch, positions) below `symbols`, or floats (batch, positions, symbols), such as
        probabilities. `given` numbers are a vector for each sample, or for each position, (batch, given, positions).
        """

    @abc.abstractmethod
    def layer(self) -> Layer:
        """One layer on (batch, positions, width), which does not receive the time."""


def check_positions(spec: TaskSpec, model: str) -> None:
    """Raises IncompatibleChoice if inputs have no positions to which attention could apply."""
    vectors = len(spec.input_shape) == 1 and not spec.tokens
    if vectors or spec.sequence:
        are = "series of observations" if spec.sequence else f"vectors of {spec.input_shape[0]} numbers"
        raise IncompatibleChoice(
            f"model={model} is made of layers of positions that see each other, and this task's inputs are {are}. "
            "Use task=digits_tokens, or model=odenet."
        )


def token_network(network: Network, model: str) -> TokenNetwork:
    """The network, if it has the parts that a model of tokens needs.

    Raises:
        IncompatibleChoice: it does not have them.
    """
    if isinstance(network, TokenNetwork):
        return network
    check_positions(network.spec, model)
    raise IncompatibleChoice(
        f"model={model} is made of layers of positions, and the network chosen has none. Use network=transformer."
    )


def two_sided_network(network: Network, model: str) -> TokenNetwork:
    """The network, if its positions see those on both sides.

    Raises:
        IncompatibleChoice: its attention is causal, or it is no network for tokens.
    """
    layers = token_network(network, model)
    if layers.causal:
        raise IncompatibleChoice(
            f"model={model} predicts a token from those on both sides, and network.causal=true lets no position see "
            "a later one. Use network.causal=false."
        )
    return layers
