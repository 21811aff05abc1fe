"""What a diagnosis is."""

import abc
from dataclasses import dataclass

from ode_runner.experiment.experiment import Experiment


@dataclass(frozen=True, kw_only=True)
class Diagnostics(abc.ABC):
    """Numbers about a model in training, taken at each evaluation; training is the same with and without."""

    @abc.abstractmethod
    def look(self, experiment: Experiment, *, epoch: int) -> dict[str, float]:
        """Scalars named `diagnostics/...` after so many epochs; NaN where one could not be computed.

        Leaves weights, their gradient and random numbers as they are, and enters evaluations under diagnostics.
        """
