"""The base classes of regularisers."""

import abc
from typing import ClassVar

from torch import Tensor, nn

from ode_runner.integral import Integral
from ode_runner.types import Scalar, State, Times, Trajectory


class Regularizer:
    """A penalty that is added to the training loss with a weight, or a change of the solves in training.

    A subclass overrides at least one of the hooks, or is a `PathRegularizer`. In validation and test, its penalty is
    reported but not part of the loss, and solves are not changed.
    """

    needs_solve: ClassVar[bool] = True  # False: it also applies to models that solve nothing
    requires: ClassVar[type] = nn.Module  # the class or interface that a model must have
    excludes: ClassVar[tuple[type, ...]] = ()  # models with this interface to which it does not apply
    requirement: ClassVar[str] = "any model"  # the requirement in words, for messages

    def __init__(self, *, weight: float) -> None:
        self.weight = weight

    @classmethod
    def is_used(cls, model: type, *, solves: bool) -> bool:
        """Whether a model has any use for it; `solves`: the model solves something."""
        del model
        return solves or not cls.needs_solve

    @classmethod
    def takes(cls, model: type) -> bool:
        """Whether the regulariser applies to models of this class."""
        return issubclass(model, cls.requires) and not issubclass(model, cls.excludes)

    def check(self, model: nn.Module) -> None:
        """Raises IncompatibleChoice if a model of a class that it takes has options that do not go with it."""
        del model

    def last_time(self, ts: Times) -> Times:
        """The times of a training batch, instead of the task's `ts`; only the last may differ."""
        return ts

    def of_states(self, ts: Times, ys: Trajectory) -> Tensor | None:
        """A penalty (batch,) on the outputs of a solve; its mean over the batch is added, summed over solves."""
        del ts, ys
        return None

    def penalty(self, model: nn.Module) -> Scalar | None:
        """A penalty on the parameters."""
        del model
        return None


def squares(x: Tensor) -> Tensor:
    """The sum of the squares of all elements of each sample, (batch,)."""
    return x.flatten(1).square().sum(dim=1)


class PathRegularizer(Regularizer, abc.ABC):
    """A penalty along every solve of a model: an integral, averaged over the batch and summed over solves."""

    @abc.abstractmethod
    def integral(self, y0: State, *, training: bool) -> Integral:
        """The integral for a solve from `y0`. Noise is drawn here, once per solve: `Integral(..., given=(noise,))`.

        Noise outside training must not be taken from the generators that training uses.
        """
