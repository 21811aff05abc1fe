"""Models whose parameters are themselves of interest."""

import abc
from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from ode_runner.models.base import Model


class EstimatedModel(Model):
    """A model whose parameters have names and meanings, so that their standard errors are reported."""

    of_training_data: ClassVar[bool] = (
        True  # the epoch kept has the least loss over it; False: it is best on validation
    )

    @abc.abstractmethod
    def estimates(self) -> Mapping[str, Tensor]:
        """The quantities by name, () each, as functions of the parameters; none if weights are learned besides."""

    @abc.abstractmethod
    def truths(self) -> Mapping[str, float]:
        """The true values of those quantities that the task knows."""

    @abc.abstractmethod
    def fixing(self, name: str) -> str:
        """The options, as typed, with which this quantity is not learned."""

    @abc.abstractmethod
    def bounds(self) -> Mapping[str, tuple[float, float]]:
        """The bounds (low, high) of bounded quantities, by name; one of them may be infinite."""
