"""A continuous normalising flow."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, final

from torch import Tensor, nn

from ode_runner.batch import Answer, Drawn
from ode_runner.encoding import Encoding
from ode_runner.integral import VJP, Integral, NoiseDistribution, probe
from ode_runner.models.base import Numerics
from ode_runner.models.density import (
    TRACE,
    DensityModel,
    base_samples,
    data_shape,
    encode_data,
    exact_trace,
    normal_log_density,
)
from ode_runner.networks.base import Network
from ode_runner.problem import Integrate, Solution
from ode_runner.types import State, Time, Times


@final
class ContinuousFlow(DensityModel):
    """Transports data by a learned field to a standard normal: log p(x) = log N(y(1)) + the integral of tr df/dy.

    The integral is the objective, so that it is under step control. Outside training, the trace is always exact.

    Args:
        trace: the trace in training. `exact`: one product with the Jacobian per element. `hutchinson`: an unbiased
            estimate by one product e^T (df/dy) e with noise e, drawn once per solve.
        noise: the distribution of e, `rademacher` or `normal`.

    Grathwohl, Chen, Bettencourt, Sutskever, Duvenaud. FFJORD. ICLR 2019.
    """

    numerics: ClassVar[Numerics] = Numerics.ANY
    gives: ClassVar[frozenset[Answer]] = frozenset({Answer.LOG_DENSITY, Answer.SAMPLES, Answer.STATES})
    takes_integrals: ClassVar[bool] = True

    def __init__(self, network: Network, *, trace: Literal["exact", "hutchinson"], noise: NoiseDistribution) -> None:
        super().__init__(network)
        self.head = nn.Identity()
        self.spec, self.shape = network.spec, data_shape(network)
        self.estimated, self.noise = trace == "hutchinson", noise
        self.field = network.field(given=network.spec.condition)
        self.exact_trace = Integral(exact_trace, judged=True, treats_samples_alone=True)

    def encode(self, inputs: Tensor) -> Encoding:
        """The data, with their condition, if there is one, as given."""
        return encode_data(self.stem, inputs, self.spec)

    def evolve(self, y0: Encoding, ts: Times, integrate: Integrate) -> Solution:
        return integrate(self.field, y0, ts)

    def decode(self, encoding: Encoding, ts: Times, integrate: Integrate) -> Tensor:
        """The log density of data, (batch,)."""
        solution = self._with_trace(encoding.y0, ts, integrate, encoding.given)
        return normal_log_density(solution.ys[-1]) + solution.integrals[TRACE][-1]

    def sample(self, count: int, ts: Times, integrate: Integrate, *, given: Sequence[Tensor] = ()) -> Drawn:
        begin = base_samples(count, self.shape, ts)
        solution = self._with_trace(begin, ts.flip(0), integrate, given)
        return Drawn(solution.ys, normal_log_density(begin) - solution.integrals[TRACE][-1])

    def unused_options(self) -> Mapping[str, str]:
        return {} if self.estimated else {"noise": "model.trace=exact draws none"}

    def _with_trace(self, y0: State, ts: Times, integrate: Integrate, given: Sequence[Tensor]) -> Solution:
        along = self.exact_trace
        if self.estimated and self.training:
            noise = probe(y0, self.noise)
            along = Integral(_estimated, judged=True, given=(noise,), treats_samples_alone=True)
        return integrate(self.field, y0, ts, given=given, integrals={TRACE: along})


def _estimated(t: Time, y: State, dy: State, vjp: VJP, *given: Tensor) -> Tensor:
    del t, dy
    [estimate] = vjp.quadratic(given[-1][None])
    return estimate
