"""Consistency: two neighbours on one way from noise to data are to be taken to the same data."""

import abc
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from ode_runner.batch import Batch
from ode_runner.encoding import Encoding
from ode_runner.field import VectorField, broadcast_time
from ode_runner.objectives.base import Loss, Objective
from ode_runner.objectives.path_regression import draw
from ode_runner.paths.base import GaussianPath
from ode_runner.paths.denoising_field import DenoisingField
from ode_runner.paths.heads import Head, to_eps
from ode_runner.problem import Integrate
from ode_runner.tasks.base import Task
from ode_runner.types import State


class ConsistencyLearner(nn.Module, abc.ABC):
    """What the objective asks of a model. Times are (batch,)."""

    levels_path: GaussianPath  # of alpha = 1
    teacher: DenoisingField | None  # of the same path, whose ways are learned; None: the data's own
    huber: float
    compared: str  # which times these are, and by what distance: models that differ in it have other losses

    @property
    @abc.abstractmethod
    def student(self) -> VectorField:
        """Takes time and state to data."""

    @property
    @abc.abstractmethod
    def target(self) -> VectorField:
        """The student with weights that follow its own."""

    @abc.abstractmethod
    def encode(self, inputs: Tensor) -> Encoding:
        """The data, and the condition that is given with them, where there is one."""

    @abc.abstractmethod
    def neighbours(self, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """Times of a level and of the next one below, of numbers between 0 and 1."""


@final
class ConsistencyTraining(Objective[ConsistencyLearner]):
    """The mean of (|student(y_1) - target(y_0)|^2 + c^2)^(1/2) - c, where y_1 leads to y_0 at the next lower level.

    With a teacher it does so by a step of Heun's method along the teacher's way; without, both are the same data with
    the same noise. Two evaluations, and two of the teacher. It says nothing of how good samples are: it is 0 where all
    states are taken to one.

    Song, Dhariwal, Chen, Sutskever. Consistency Models. ICML 2023, algorithms 2 and 3. · Song, Dhariwal. Improved
    Techniques for Training Consistency Models. ICLR 2024, for the distance.
    """

    solves = False
    ranks = False

    def loss(self, model: ConsistencyLearner, task: Task, batch: Batch, integrate: Integrate) -> Loss:
        encoding = model.encode(batch.inputs)
        data, given = encoding.y0, encoding.given
        drawn = draw(data, training=model.training)
        high, low = model.neighbours(drawn.times)
        begin = model.levels_path.noised(broadcast_time(high, data), data, drawn.noise)
        with torch.no_grad():
            end = model.levels_path.noised(broadcast_time(low, data), data, drawn.noise)
            if model.teacher is not None:
                end = heun(model.teacher, high, low, begin, given, integrate)
            goal = integrate.evaluate(model.target, low, end, given=given)
        found = integrate.evaluate(model.student, high, begin, given=given)
        squares = (found - goal).to(data.dtype).flatten(1).square().sum(dim=1)
        return Loss(((squares + model.huber**2).sqrt() - model.huber).mean())

    def measures(self, model: ConsistencyLearner) -> str:
        return f"the distance of the answers at two neighbouring times, {model.compared}"


def heun(field: DenoisingField, t: Tensor, u: Tensor, x: State, given: Sequence[Tensor], integrate: Integrate) -> State:
    """A step in rho along the way of a field whose path has alpha = 1, for two evaluations."""
    step = broadcast_time(field.path.sigma(u) - field.path.sigma(t), x)

    def slope(time: Tensor, state: State) -> State:
        velocity = integrate.evaluate(field, time, state, given=given)
        return to_eps(field.path, Head.V, broadcast_time(time, state), state, velocity)

    first = slope(t, x)
    return x + step / 2 * (first + slope(u, x + step * first))
