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

FLOOR = "loss_floor"  # the least that the loss can be, where that is known
TASK = "task"  # name of the term that is the task's own
ModelT = TypeVar("ModelT", bound=nn.Module, contravariant=True)


class Loss(NamedTuple):
    """The loss of a batch, and what it is made of."""

    total: Scalar
    terms: Mapping[str, Scalar] = MappingProxyType({})  # means over the batch by name, before they are weighted
    outputs: Outputs | None = None  # what the model answered, where the objective has asked for an answer
    prices: Mapping[str, Scalar] = MappingProxyType({})  # of regularisers, where they are no part of the loss
    beside: Mapping[str, Scalar] = MappingProxyType({})  # reported with the loss by name, such as bounds and floors

    def scalars(self) -> dict[str, Scalar]:
        """`loss`, `loss/<term>` of each term where there are several, and prices by their names; without a graph."""
        several = self.terms if len(self.terms) > 1 else {}
        terms = {f"loss/{name}": value.detach() for name, value in several.items()}
        prices = {name: price.detach() for name, price in self.prices.items()}
        beside = {name: value.detach() for name, value in self.beside.items()}
        return {"loss": self.total.detach()} | terms | prices | beside


def floor_text(results: Mapping[str, float]) -> str:
    """` (floor 0.123)`, to be printed behind the loss of a split; "" if the floor is not known."""
    return f" (floor {results[FLOOR]:.4g})" if FLOOR in results else ""


class Objective(abc.ABC, Generic[ModelT]):
    """Takes a batch to its loss; the same in training, validation, test, replay, audits and diagnostics.

    A model's class names its objective. `integrate` solves for the model, and an objective that needs no solve leaves
    it alone. Where the precision is bf16 it is called under autocast.
    """

    solves: bool = True  # False: training asks for no solve, and so for no gradient mode
    ranks: bool = True  # False: of two losses the smaller may be of the worse weights, so that the last ones are taken

    @abc.abstractmethod
    def loss(self, model: ModelT, task: Task, batch: Batch, integrate: Integrate) -> Loss:
        """The loss of a batch: a mean over its samples."""

    def measures(self, model: ModelT) -> str:
        """What the loss is, where that of another model is another quantity; "": the task's own, as `nll` is."""
        del model
        return ""
