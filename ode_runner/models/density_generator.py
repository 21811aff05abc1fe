"""A generator that also computes the log density of its samples."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ode_runner.integral import Integral
from ode_runner.models.density import TRACE, exact_trace, normal_log_density
from ode_runner.models.generator import Generator
from ode_runner.noise.brownian_path import Noise
from ode_runner.paths.denoising_field import DenoisingField
from ode_runner.problem import Integrate
from ode_runner.types import State, Times, Trajectory


@dataclass(frozen=True, kw_only=True)
class DensityGenerator(Generator):
    """A generator with a log density, which assumes that the states at `start` are normally distributed."""

    def path_with_density(
        self, y0: State, ts: Times, noise: Noise, integrate: Integrate, given: Sequence[Tensor]
    ) -> tuple[Trajectory, Tensor]:
        """The states of `path`, and the log density of the last (sample,), in nats, by the same solve.

        The trace is not under step control, so that the samples equal those that are drawn without it.
        """
        assert isinstance(self.field, DenoisingField)
        along = {TRACE: Integral(exact_trace, judged=False, treats_samples_alone=True)}
        solution = integrate(self.field, y0, ts, given=given, noise=noise, integrals=along)
        std = self.field.path.std_at(self.start)
        begun = normal_log_density(y0 / std) - math.prod(self.shape) * math.log(std)
        return solution.ys, begun - solution.integrals[TRACE][-1]
