"""The base class of diagnostics."""

import abc
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from ode_runner.experiment.experiment import Experiment
from ode_runner.plots.figure_types import Figure


@dataclass(frozen=True, kw_only=True)
class Diagnostics(abc.ABC):
    """Measures properties of a model at each evaluation during training, without effect on the training."""

    absent: ClassVar[str] = ""  # message at the end of a run in which nothing was measured

    @abc.abstractmethod
    def measure(self, experiment: Experiment, *, epoch: int) -> dict[str, float]:
        """Scalars named `diagnostics/...` after `epoch` epochs, NaN if one cannot be computed; may be empty.

        Leaves weights, their gradients and random numbers unchanged; counts evaluations under Phase.DIAGNOSTICS.
        """

    def figures(self, experiment: Experiment) -> Iterator[tuple[str, Figure]]:
        """Pictures of the trained model, by file name without ending."""
        del experiment
        yield from ()
