"""Tasks whose loss is a mean of squared errors."""

import abc

from torch import Tensor

from ode_runner.batch import Batch, Outputs
from ode_runner.tasks.base import Task
from ode_runner.types import Scalar


class LeastSquaresTask(Task):
    """A task with individual errors (residuals), as needed for Gauss-Newton steps and standard errors."""

    more_errors: str = ""  # an option, as typed, that adds errors of another kind to the loss

    @property
    @abc.abstractmethod
    def each_once(self) -> bool:
        """Whether every measurement occurs in one training sample only."""

    @property
    def noisy_starts(self) -> bool:
        """Whether solves begin from states that are known to have noise, so that estimates by the fit are biased."""
        return False

    @abc.abstractmethod
    def residuals(self, outputs: Outputs, batch: Batch) -> Tensor:
        """The errors of all known targets, (number,)."""

    def loss(self, outputs: Outputs, batch: Batch) -> Scalar:
        return self.residuals(outputs, batch).square().mean()

    def counts(self, outputs: Outputs, batch: Batch) -> dict[str, int]:
        """The number of observations that a loss is a mean of; samples may have different numbers of them."""
        return {} if batch.observed is None else {"loss": len(self.residuals(outputs, batch))}
