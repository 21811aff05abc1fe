"""The base class of diagnostics."""

import abc
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from ode_runner.errors import RefusedInput
from ode_runner.experiment.experiment import Experiment
from ode_runner.models.base import Model
from ode_runner.plots.figure_types import Figure


@dataclass(frozen=True, kw_only=True)
class Diagnostics(abc.ABC):
    """Measures properties of a model at each evaluation during training, without effect on the training."""

    absent: ClassVar[str] = ""  # message about a run in which nothing is measured

    @classmethod
    def takes(cls, model: type[Model]) -> bool:
        """Whether a model of this class has something to measure."""
        del model
        return True

    def due(self, *, epoch: int, last: bool) -> bool:
        """Whether to measure after `epoch` epochs, by default after each. `last`: training ends there."""
        del epoch, last
        return True

    def measure_if_due(self, experiment: Experiment, *, epoch: int, last: bool) -> dict[str, float]:
        """What `measure` returns if it is due; otherwise nothing."""
        return self.measure(experiment, epoch=epoch) if self.due(epoch=epoch, last=last) else {}

    @abc.abstractmethod
    def measure(self, experiment: Experiment, *, epoch: int) -> dict[str, float]:
        """Scalars named `diagnostics/...` after `epoch` epochs, NaN if one cannot be computed; may be empty.

        Leaves weights, their gradients and random numbers unchanged; counts evaluations under Phase.DIAGNOSTICS.
        """

    def figures(self, experiment: Experiment) -> Iterator[tuple[str, Figure]]:
        """Pictures of the trained model, by file name without ending."""
        del experiment
        yield from ()


@dataclass(frozen=True, kw_only=True)
class PeriodicDiagnostics(Diagnostics):
    """Diagnostics that cost much: measured after the first epoch, every `every` epochs, and after the last."""

    least: ClassVar[dict[str, int]]  # the smallest value of each option
    every: int

    def __post_init__(self) -> None:
        for name, least in self.least.items():
            if getattr(self, name) < least:
                raise RefusedInput(f"diagnostics.{name} must be at least {least}, not {getattr(self, name)}.")

    def due(self, *, epoch: int, last: bool) -> bool:
        return last or epoch == 1 or epoch % self.every == 0
