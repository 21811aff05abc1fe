"""The task's true field, without training, to study solvers."""

from typing import ClassVar, final

import torch
from torch import Tensor, nn

from ode_runner.batch import Answer, Outputs
from ode_runner.encoding import Encoding
from ode_runner.errors import IncompatibleChoice
from ode_runner.field import VectorField
from ode_runner.models.base import Model, Numerics
from ode_runner.models.density import encode_data
from ode_runner.models.events import with_events
from ode_runner.models.generator import Generator, sample_noise
from ode_runner.models.texts.token_generator import TokenGenerator
from ode_runner.networks.base import Network
from ode_runner.paths.denoising_field import KnownDistribution
from ode_runner.paths.token_field import KnownTokenField
from ode_runner.problem import Integrate, Solution
from ode_runner.types import Times


@final
class Exact(Model):
    """Solves the true field, from the true initial states or from noise, so that all errors are the solver's.

    If the field is that of a known distribution, of numbers or texts, outputs are its log density, without a solve.

    Our own.
    """

    numerics: ClassVar[Numerics] = Numerics.SOLVER
    gives: ClassVar[frozenset[Answer]] = frozenset(
        {
            Answer.VALUES,
            Answer.LOG_DENSITY,
            Answer.TOKENS,
            Answer.STATES,
            Answer.TRUTH,
            Answer.EQUATION,
            Answer.EVENTS,
            Answer.PATHS,
        }
    )

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        if network.spec.field is None:
            raise IncompatibleChoice(
                "model=exact needs a task whose true field or density is known. Use task=lotka_volterra, pendulum or "
                "linear, task=area, task=density2d task.name=8gaussians_narrow, or task=markov_text; or another model."
            )
        self.stem, self.head = network.spec.stem or nn.Identity(), network.spec.head or nn.Identity()
        self.spec = network.spec
        self.field, self.shape, self.sampled = network.spec.field, network.spec.input_shape, network.spec.sampled
        self.noise_seed, self.event = network.spec.noise_seed, network.spec.event

    def encode(self, inputs: Tensor) -> Encoding:
        """The state, and its condition, if there is one, as given."""
        return encode_data(self.stem, inputs, self.spec) if self.spec.condition else super().encode(inputs)

    def evolve(self, y0: Encoding, ts: Times, integrate: Integrate) -> Solution:
        """The solve; for the field of a path, from data to noise, beginning at the time where sampling ends.

        In a stochastic solve, the noise of a sample is determined by its position in the batch.
        """
        if self.sampled is not None:
            ts = ts.clamp(self.sampled[1], self.sampled[0])
        if self.noise_seed is None:
            return integrate(self.field, y0, ts, event=self.event)
        numbers = torch.arange(len(y0.y0), device=y0.y0.device)
        return integrate(self.field, y0, ts, noise=sample_noise(self.noise_seed, numbers))

    def forward(self, inputs: Tensor, ts: Times, integrate: Integrate) -> Outputs:
        if self.event is None:
            return super().forward(inputs, ts, integrate)
        return with_events(self, inputs, ts, integrate)

    def decode(self, encoding: Encoding, ts: Times, integrate: Integrate) -> Tensor:
        if isinstance(self.field, KnownTokenField):
            return self.field.log_density(encoding.y0)
        if isinstance(self.field, KnownDistribution):
            return self.field.log_density(encoding.y0, *encoding.given)
        return super().decode(encoding, ts, integrate)

    def generator(self) -> Generator | None:
        if self.sampled is None:
            return None
        start, end = self.sampled
        if isinstance(self.field, KnownTokenField):
            return TokenGenerator(field=self.field, shape=self.shape, start=start, end=end)
        if not isinstance(self.field, KnownDistribution):
            return None
        return Generator(field=self.field, shape=self.shape, start=start, end=end)

    def learned_field(self) -> VectorField | None:
        return self.field if self.spec.stem is None else None
