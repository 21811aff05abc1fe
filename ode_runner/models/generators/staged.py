"""What a model is that learns in stages, each from data that the stage before has made."""

import abc
from collections.abc import Mapping

from torch import Tensor

from ode_runner.models.base import Model
from ode_runner.problem import Integrate


class StagedModel(Model):
    """Training goes through its epochs and its schedule once a stage, from the best weights of the stage before."""

    stages: int

    @abc.abstractmethod
    def make_stage(self, inputs: Tensor, integrate: Integrate, *, seed: int) -> dict[str, Tensor]:
        """What the next stage learns from, made by the present weights; a function of these and the seed.

        Args:
            inputs: of the whole training split.
            integrate: solves finely, whatever the run's own solver.
            seed: of the run.
        """

    @abc.abstractmethod
    def begin_stage(self, made: Mapping[str, Tensor]) -> None:
        """Go on from the present weights to the next stage, and learn from what has been made for it."""

    @abc.abstractmethod
    def resume_stage(self, made: Mapping[str, Tensor]) -> None:
        """`begin_stage` in the middle of a stage, whose weights and buffers have been loaded."""
