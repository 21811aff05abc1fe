"""The base class of models that learn the field of a Gaussian path by regression."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from torch import Tensor, nn

from ode_runner.batch import Answer
from ode_runner.devices.transfer import read_times
from ode_runner.encoding import Encoding
from ode_runner.errors import IncompatibleChoice, RefusedInput
from ode_runner.field import VectorField, broadcast_time
from ode_runner.integral import Integral
from ode_runner.models.base import Model, Numerics
from ode_runner.models.density import TRACE, data_shape, encode_data, exact_trace, normal_log_density
from ode_runner.models.density_generator import DensityGenerator
from ode_runner.models.generator import Generator
from ode_runner.models.generators.predicted_field import GuidedField, PredictedField
from ode_runner.networks.base import Network
from ode_runner.objectives.base import Objective
from ode_runner.objectives.path_regression import Coupled, PathLearner, PathRegression
from ode_runner.paths.denoising_field import KnownDistribution
from ode_runner.paths.heads import Head, convert
from ode_runner.problem import Integrate, Solution
from ode_runner.types import State, Times

NEAR_END = 0.01  # a time may be that far beyond an end of sampling, where it has the state of the end


class PathModel(Model, PathLearner):
    """Learns the field of a path from data (t = 0) to noise (t = 1). Sampling runs from `start_time` to `end_time`.

    Outputs are log densities, by the same field from `end_time` to `start_time`, where the state is assumed to be
    normal. Both receive the condition, if there is one. Sampling may be guided; log densities are not, because a guided
    field belongs to no distribution.

    Args:
        guidance: guidance of samples, see `GuidedField`.
        hidden: probability with which training replaces a condition by zeros.
        start_time: the first time of sampling.
        end_time: the last time of sampling.
    """

    numerics: ClassVar[Numerics] = Numerics.ANY
    gives: ClassVar[frozenset[Answer]] = frozenset({Answer.LOG_DENSITY, Answer.SAMPLES, Answer.STATES})
    objective: ClassVar[Objective[PathLearner]] = PathRegression()
    takes_integrals: ClassVar[bool] = True
    test_only: ClassVar[frozenset[str]] = frozenset({"guidance"})
    field: PredictedField
    of_path: bool = True  # whether data and noise are independent, as the reverse equation assumes

    def __init__(self, network: Network, *, guidance: float, hidden: float, start_time: float, end_time: float) -> None:
        super().__init__(network)
        self.spec, self.shape = network.spec, data_shape(network)
        conditional = network.spec.condition > 0
        if guidance != 1 and not conditional:
            raise IncompatibleChoice(
                f"model.guidance={guidance:g} needs a condition to be guided by, and this task gives none. Use "
                "task.conditional=true, or leave model.guidance out."
            )
        if not 0 <= hidden < 1:
            raise RefusedInput(f"model.hidden must be 0 or more and less than 1, not {hidden}.")
        if guidance != 1 and hidden == 0:
            raise RefusedInput(
                f"model.guidance={guidance:g} needs a model that does without its condition, and model.hidden=0 "
                "hides none in training. Use model.hidden=0.1."
            )
        if not 0 <= end_time < start_time <= 1:
            raise RefusedInput(
                f"model.start_time={start_time:g} model.end_time={end_time:g}: samples begin at the one, which is 1 at "
                "most, and end at the other, which is less and at least 0."
            )
        self.head = nn.Identity()
        self.guidance, self.hidden, self.start_time, self.end_time = guidance, hidden, start_time, end_time
        self.trace = Integral(exact_trace, judged=True, treats_samples_alone=True)

    def unused_options(self) -> Mapping[str, str]:
        return {} if self.spec.condition else {"hidden": "the task gives no conditions"}

    def introduction(self) -> Iterator[str]:
        if self.spec.condition and self.hidden:
            yield (
                f"the loss of training hides {self.hidden:.3g} of the conditions (model.hidden), that of validation "
                "and test none: do not compare them with each other"
            )

    def encode(self, inputs: Tensor) -> Encoding:
        """The data, with their condition, if there is one, as given."""
        return encode_data(self.stem, inputs, self.spec)

    def evolve(self, y0: Encoding, ts: Times, integrate: Integrate) -> Solution:
        """The solve from data to noise. The times 0 and 1 stand for the ends of sampling.

        Raises:
            RefusedInput: another time is not between these ends, by more than rounding.
        """
        for t in read_times(ts):
            beyond = max(self.end_time - t, t - self.start_time)
            if not 0 <= t <= 1 or (t not in (0, 1) and beyond > NEAR_END):
                raise RefusedInput(
                    f"t = {t:g}: the field of this model leads from data at {self.end_time:g} to noise at "
                    f"{self.start_time:g}, and 0 and 1 stand for these ends. Ask for times between them."
                )
        return integrate(self.field, y0, self._within(ts))

    def decode(self, encoding: Encoding, ts: Times, integrate: Integrate) -> Tensor:
        """The log density of data, (batch,)."""
        solution = integrate(self.field, encoding, self._within(ts), integrals={TRACE: self.trace})
        std = self.field.path.std_at(self.start_time)
        normal = normal_log_density(solution.ys[-1] / std) - math.prod(self.shape) * math.log(std)
        return normal + solution.integrals[TRACE][-1]

    def generator(self) -> Generator:
        return self._generator(self.field)

    def _generator(self, field: PredictedField) -> Generator:
        """A generator of samples, with guidance."""
        start, end = self.start_time, self.end_time
        if self.guidance == 1:
            return DensityGenerator(field=field, shape=self.shape, start=start, end=end, of_path=self.of_path)
        guided = GuidedField(field, scale=self.guidance)
        return Generator(field=guided, shape=self.shape, start=start, end=end, of_path=self.of_path)

    def predict(self, t: Tensor, x: State, given: Sequence[Tensor], integrate: Integrate) -> State:
        return integrate.evaluate(self.field.inner, t, x, given=given)

    def learned_field(self) -> VectorField | None:
        """The field of the path; None if data and noise are coupled, because then the field is another one."""
        return self.field if self.of_path else None

    def perfect(self, t: Tensor, x: State, given: Sequence[Tensor]) -> State | None:
        if not self.of_path or not isinstance(self.spec.field, KnownDistribution):
            return None
        path, head = self.field.path, self.field.head
        true = self.spec.field.along(path)
        if head is Head.V:
            return true(t, x, *given)
        return convert(path, Head.X0, head, broadcast_time(t, x), x, true.denoise(t, x, *given))

    def coupled(self, data: State, noise: State, given: Sequence[Tensor]) -> Coupled:
        return Coupled(data, noise, given)

    def times(self, uniform: Tensor) -> Tensor:
        return self.end_time + (self.start_time - self.end_time) * uniform

    def _looked_at(self, default: float) -> str:
        """In words: the range of times in training, if it is not from `default` to 1."""
        ends = (self.end_time, self.start_time)
        return "" if ends == (default, 1.0) else f" from t={ends[0]:g} to {ends[1]:g}"

    def _within(self, ts: Times) -> Times:
        return ts.clamp(self.end_time, self.start_time)
