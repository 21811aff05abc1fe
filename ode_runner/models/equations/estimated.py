"""Models whose parameters are themselves of interest."""

import abc
from collections.abc import Mapping

from torch import Tensor

from ode_runner.models.base import Model


class EstimatedModel(Model):
    """A model whose parameters have names and meanings, so that their standard errors are reported."""

    @abc.abstractmethod
    def estimates(self) -> Mapping[str, Tensor]:
        """The quantities by name, () each, as functions of the parameters."""

    @abc.abstractmethod
    def truths(self) -> Mapping[str, float]:
        """The true values of those quantities that the task knows."""

    @abc.abstractmethod
    def bounds(self) -> Mapping[str, tuple[float, float]]:
        """The bounds (low, high) of bounded quantities, by name; one of them may be infinite."""
