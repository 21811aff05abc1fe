"""What a regulariser is."""

import abc
from typing import ClassVar

from torch import Tensor, nn

from ode_runner.integral import Integral
from ode_runner.types import Scalar, State, Times, Trajectory


class Regularizer:
    """A price that joins the loss of training, by its weight, or a change of the solves that training makes.

    A subclass overrides at least one of the hooks, or is a `PathRegularizer`. In validation and test its price is
    reported, and no part of the loss, and solves are as the task asks for them.
    """

    needs_solve: ClassVar[bool] = True  # False: it does with a model that solves nothing
    requires: ClassVar[type] = nn.Module  # the least a model must offer
    excludes: ClassVar[tuple[type, ...]] = ()  # models that it does not take all the same
    requirement: ClassVar[str] = "any model"  # the same, in words

    def __init__(self, *, weight: float) -> None:
        self.weight = weight

    @classmethod
    def is_used(cls, model: type, *, solves: bool) -> bool:
        """Whether a model, which solves something or does not, has a use for it at all."""
        del model
        return solves or not cls.needs_solve

    @classmethod
    def takes(cls, model: type) -> bool:
        """Whether the regulariser applies to models of this class."""
        return issubclass(model, cls.requires) and not issubclass(model, cls.excludes)

    def check(self, model: nn.Module) -> None:
        """Raises IncompatibleChoice where a model, of a class that it takes, has options that do not go with it."""
        del model

    def last_time(self, ts: Times) -> Times:
        """The times of a batch of training in the place of the task's `ts`; all but the last stay."""
        return ts

    def of_states(self, ts: Times, ys: Trajectory) -> Tensor | None:
        """A price (batch,) on the outputs of a solve; its mean over the batch, summed over solves, is added."""
        del ts, ys
        return None

    def penalty(self, model: nn.Module) -> Scalar | None:
        """A price on the parameters."""
        del model
        return None


def squares(x: Tensor) -> Tensor:
    """The sum of the squares of all elements of each sample, (batch,)."""
    return x.flatten(1).square().sum(dim=1)


class PathRegularizer(Regularizer, abc.ABC):
    """A price along every solve of a model: the mean over the batch of an integral, summed over solves."""

    @abc.abstractmethod
    def integral(self, y0: State, *, training: bool) -> Integral:
        """For a solve from `y0`. Noise is drawn here, once a solve, and handed over: `Integral(..., given=(noise,))`.

        Noise outside training must not be taken from the generators that training draws from.
        """
