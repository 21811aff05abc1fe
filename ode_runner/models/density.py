"""What a model is that gives a log density and samples of it."""

import abc
from collections.abc import Sequence

from torch import Tensor

from ode_runner.batch import Drawn
from ode_runner.models.base import Model
from ode_runner.problem import Integrate
from ode_runner.types import Times


class DensityModel(Model, abc.ABC):
    """Answers with the log density of its inputs, in nats, in the units of the inputs."""

    @abc.abstractmethod
    def sample(self, count: int, ts: Times, integrate: Integrate, *, given: Sequence[Tensor] = ()) -> Drawn:
        """`count` samples and their log density, by torch's generator.

        `ts` run from the data to the base law, as they do for a log density; the path comes back through them. `given`
        is the condition of each, (count, condition), where the density depends on one.
        """
