"""The consistency objective: neighbouring points on a path from noise to data are mapped to the same data."""

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
    """The interface that the objective needs from a model. Times are (batch,)."""

    levels_path: GaussianPath  # with alpha = 1
    teacher: DenoisingField | None  # with the same path; its trajectories are learned; None: those of the data
    huber: float
    compared: str  # the times and the distance, in words: losses with different ones are not comparable

    @property
    @abc.abstractmethod
    def student(self) -> VectorField:
        """Maps time and state to data."""

    @property
    @abc.abstractmethod
    def target(self) -> VectorField:
        """The student with weights that follow the student's (such as a moving average)."""

    @abc.abstractmethod
    def encode(self, inputs: Tensor) -> Encoding:
        """The data, and the condition given with them, if there is one."""

    @abc.abstractmethod
    def neighbours(self, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """Times of a noise level and of the next lower one, from numbers between 0 and 1."""


@final
class ConsistencyTraining(Objective[ConsistencyLearner]):
    """The mean of (|student(y_1) - target(y_0)|^2 + c^2)^(1/2) - c, where y_0 is the successor of y_1 at a lower level.

    With a teacher, y_0 is a step of Heun's method along the teacher's trajectory from y_1; without, both are the same
    data with the same noise. This takes two evaluations, and two of the teacher. The loss does not measure the quality
    of samples: it is 0 if all states are mapped to the same point.

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
    """A step of Heun's method in rho, for a field whose path has alpha = 1; two evaluations."""
    step = broadcast_time(field.path.sigma(u) - field.path.sigma(t), x)

    def slope(time: Tensor, state: State) -> State:
        velocity = integrate.evaluate(field, time, state, given=given)
        return to_eps(field.path, Head.V, broadcast_time(time, state), state, velocity)

    first = slope(t, x)
    return x + step / 2 * (first + slope(u, x + step * first))
