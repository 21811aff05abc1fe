"""The base class of models of texts."""

from typing import ClassVar

from torch import nn

from ode_runner.batch import Answer
from ode_runner.encoding import Encoding
from ode_runner.models.base import Model, Numerics
from ode_runner.networks.base import Network
from ode_runner.paths.token_field import KnownTokenField
from ode_runner.problem import Integrate, Solution
from ode_runner.types import Times


class TextModel(Model):
    """A model of texts, (batch, position), that draws new texts; there is no solve from its inputs.

    `shape` is the shape of a text; `known` is the true distribution, if the task knows it.
    """

    numerics: ClassVar[Numerics] = Numerics.ANY
    gives: ClassVar[frozenset[Answer]] = frozenset({Answer.TOKENS})

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.stem = self.head = nn.Identity()
        spec = network.spec
        self.shape, self.known = spec.input_shape, spec.field if isinstance(spec.field, KnownTokenField) else None

    def evolve(self, y0: Encoding, ts: Times, integrate: Integrate) -> Solution:
        raise NotImplementedError("there is no way from a text to noise")
