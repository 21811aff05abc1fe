"""Tasks whose loss is a mean of squares."""

import abc

from torch import Tensor

from ode_runner.batch import Batch, Outputs
from ode_runner.tasks.base import Task
from ode_runner.types import Scalar


class LeastSquaresTask(Task):
    """A task that knows each error of an answer, so that Gauss-Newton steps and standard errors can be had."""

    @property
    @abc.abstractmethod
    def each_once(self) -> bool:
        """Whether every measurement is in one training sample alone."""

    @abc.abstractmethod
    def residuals(self, outputs: Outputs, batch: Batch) -> Tensor:
        """The errors where targets are known, (number,)."""

    def loss(self, outputs: Outputs, batch: Batch) -> Scalar:
        return self.residuals(outputs, batch).square().mean()

    def counts(self, outputs: Outputs, batch: Batch) -> dict[str, int]:
        """How many observations a loss is a mean of, of which samples may have different numbers."""
        return {} if batch.observed is None else {"loss": len(self.residuals(outputs, batch))}
