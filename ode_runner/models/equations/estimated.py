"""Models whose parameters are numbers that somebody wants to know."""

import abc
from collections.abc import Mapping

from torch import Tensor

from ode_runner.models.base import Model


class EstimatedModel(Model):
    """A model whose parameters have names and meanings, so that standard errors of them are worth reporting."""

    @abc.abstractmethod
    def estimates(self) -> Mapping[str, Tensor]:
        """The numbers by name, () each, as functions of the parameters."""

    @abc.abstractmethod
    def truths(self) -> Mapping[str, float]:
        """The true values of those numbers that the task knows."""

    @abc.abstractmethod
    def bounds(self) -> Mapping[str, tuple[float, float]]:
        """The bounds of numbers that have some, by name: lowest and highest, either of them infinite."""
