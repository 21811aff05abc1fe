"""The base class of models that are trained in stages, each with data made by the previous stage."""

import abc
from collections.abc import Mapping

from torch import Tensor

from ode_runner.models.base import Model
from ode_runner.problem import Integrate


class StagedModel(Model):
    """A model whose training has several stages. Each runs all epochs, from the best weights of the previous stage."""

    stages: int

    @abc.abstractmethod
    def make_stage(self, inputs: Tensor, integrate: Integrate, *, seed: int) -> dict[str, Tensor]:
        """The data of the next stage, as a function of the present weights and the seed.

        Args:
            inputs: the inputs of the whole training split.
            integrate: an accurate integrator, whatever the run's solver.
            seed: the seed of the run.
        """

    @abc.abstractmethod
    def begin_stage(self, made: Mapping[str, Tensor]) -> None:
        """Begin the next stage, with the present weights and the data made for it."""

    @abc.abstractmethod
    def resume_stage(self, made: Mapping[str, Tensor]) -> None:
        """Resume in the middle of a stage, after its weights and buffers were loaded."""
