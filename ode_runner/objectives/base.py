"""The base class of objectives: what training minimises."""

import abc
from collections.abc import Mapping
from types import MappingProxyType
from typing import Generic, NamedTuple, TypeVar

from torch import nn

from ode_runner.batch import Batch, Outputs
from ode_runner.problem import Integrate
from ode_runner.tasks.base import Task
from ode_runner.types import Scalar

FLOOR = "loss_floor"  # name of the smallest possible loss, if it is known
TASK = "task"  # name of the task's own term
ModelT = TypeVar("ModelT", bound=nn.Module, contravariant=True)


class Loss(NamedTuple):
    """The loss of a batch, and its parts."""

    total: Scalar
    terms: Mapping[str, Scalar] = MappingProxyType({})  # means over the batch by name, before weighting
    outputs: Outputs | None = None  # the model's outputs, if the objective used them
    penalties: Mapping[str, Scalar] = MappingProxyType({})  # of regularisers, if they are not part of the loss
    reported: Mapping[str, Scalar] = MappingProxyType({})  # reported with the loss by name, such as bounds and floors

    def scalars(self) -> dict[str, Scalar]:
        """`loss`; `loss/<term>` for each term if there are several; penalties and others by name. All are detached."""
        several = self.terms if len(self.terms) > 1 else {}
        terms = {f"loss/{name}": value.detach() for name, value in several.items()}
        penalties = {name: penalty.detach() for name, penalty in self.penalties.items()}
        reported = {name: value.detach() for name, value in self.reported.items()}
        return {"loss": self.total.detach()} | terms | penalties | reported


def floor_text(results: Mapping[str, float]) -> str:
    """` (floor 0.123)`, printed after the loss of a split; "" if the floor is not known."""
    return f" (floor {results[FLOOR]:.4g})" if FLOOR in results else ""


class Objective(abc.ABC, Generic[ModelT]):
    """Computes the loss of a batch; the same in training, validation, test, replay, audits and diagnostics.

    A model's class names its objective. `integrate` solves for the model; an objective without solves does not use it.
    With precision bf16, the objective is called under autocast.
    """

    solves: bool = True  # False: training needs no solve, and so no gradient mode
    ranks: bool = True  # False: a smaller loss does not mean better weights, so that the last ones are kept

    @abc.abstractmethod
    def loss(self, model: ModelT, task: Task, batch: Batch, integrate: Integrate) -> Loss:
        """The loss of a batch: a mean over its samples."""

    def measures(self, model: ModelT) -> str:
        """What the loss is, if other models have other quantities; "": the task's own loss, such as `nll`."""
        del model
        return ""
