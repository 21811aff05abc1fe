"""A regression along a Gaussian path: the objective of flow matching and diffusion models."""

import abc
from collections.abc import Sequence
from typing import NamedTuple, final

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from ode_runner.batch import Batch
from ode_runner.encoding import Encoding
from ode_runner.field import broadcast_time
from ode_runner.objectives.base import FLOOR, Loss, Objective
from ode_runner.paths.denoising_field import DenoisingField
from ode_runner.problem import Integrate
from ode_runner.tasks.base import Task
from ode_runner.types import Scalar, State

VALIDATION = 0  # seed of random numbers outside training


class Coupled(NamedTuple):
    """Data, noise and conditions, coupled row by row."""

    data: State
    noise: State
    given: Sequence[Tensor]


class PathLearner(nn.Module, abc.ABC):
    """The interface that the objective needs from a model. Times are (batch,), broadcast where values are computed."""

    field: DenoisingField
    hidden: float  # share of conditions that are replaced by zeros in training
    regresses: str  # target, path and weighting in words: losses that differ in them are not comparable

    @abc.abstractmethod
    def encode(self, inputs: Tensor) -> Encoding:
        """The data, and the condition given with them, if there is one."""

    @abc.abstractmethod
    def times(self, uniform: Tensor) -> Tensor:
        """Training times, from numbers between 0 and 1."""

    @abc.abstractmethod
    def coupled(self, data: State, noise: State, given: Sequence[Tensor]) -> Coupled:
        """The coupling of a batch and noise, or an equal amount of other training data."""

    @abc.abstractmethod
    def predict(self, t: Tensor, x: State, given: Sequence[Tensor], integrate: Integrate) -> State:
        """The prediction to compare with the target; one evaluation."""

    @abc.abstractmethod
    def target(self, t: Tensor, data: State, noise: State) -> State:
        """The target; a perfect model predicts its conditional mean."""

    @abc.abstractmethod
    def perfect(self, t: Tensor, x: State, given: Sequence[Tensor]) -> State | None:
        """The prediction of a perfect model for the states of a batch; None if it is not known. No evaluation."""

    @abc.abstractmethod
    def weight(self, t: Tensor) -> Tensor | None:
        """The weight of a squared error; None: all weights are 1."""


@final
class PathRegression(Objective[PathLearner]):
    """The mean of weight(t) |predict(t, x_t) - target|^2 over elements, times and noise; one evaluation, no solve.

    Times are stratified over a batch. Outside training, every batch has the same times and noise, so that weights are
    compared on equal terms, and no condition is hidden. The smallest possible mean is not 0 but the conditional
    variance of the target: pi / 2 for flow matching between two standard normal distributions. If the true field is
    known, this minimum is reported outside training, for the times and noise that were drawn.

    Lipman, Chen, Ben-Hamu, Nickel, Le. Flow Matching. ICLR 2023, equation 14. · Ho, Jain, Abbeel. Denoising Diffusion
    Probabilistic Models. NeurIPS 2020, equation 14.
    """

    solves = False

    def loss(self, model: PathLearner, task: Task, batch: Batch, integrate: Integrate) -> Loss:
        encoding = model.encode(batch.inputs)
        data, given = encoding.y0, encoding.given
        drawn = draw(data, training=model.training)
        data, noise, given = model.coupled(data, drawn.noise, given)
        if model.training:
            given = [z * (drawn.hiding >= model.hidden)[:, None] for z in given]
        times = model.times(drawn.times)
        t = broadcast_time(times, data)
        x, target, weight = model.field.path.noised(t, data, noise), model.target(t, data, noise), model.weight(t)
        predicted = model.predict(times, x, given, integrate).to(data.dtype)
        perfect = None if model.training else model.perfect(times, x, given)
        floor = {} if perfect is None else {FLOOR: _mean_square(perfect, target, weight)}
        return Loss(_mean_square(predicted, target, weight), reported=floor)

    def measures(self, model: PathLearner) -> str:
        return f"the squared error of {model.regresses}"


def _mean_square(predicted: State, target: State, weight: Tensor | None) -> Scalar:
    if weight is None:
        return mse_loss(predicted, target)  # one operation instead of three, with the same bits
    return (weight * (predicted - target).square()).mean()


class RandomDraw(NamedTuple):
    """Random numbers for a batch."""

    times: Tensor  # (batch,), stratified over (0, 1)
    noise: State
    hiding: Tensor  # (batch,), between 0 and 1


def draw(data: State, *, training: bool) -> RandomDraw:
    """Random numbers for a batch; outside training always the same.

    They are drawn in single precision, whatever that of the data, so that they are the same in another precision.
    """
    count, device = data.shape[0], data.device
    generator = None if training else torch.Generator(device).manual_seed(VALIDATION)
    normal = torch.randn(data.shape, generator=generator, device=device, dtype=torch.float32)
    within, hiding = torch.rand(2, count, generator=generator, device=device, dtype=torch.float32).unbind()
    times = within.add_(torch.arange(count, device=device, dtype=torch.float32)).div_(count)
    return RandomDraw(times.to(data.dtype), normal.to(data.dtype), hiding)
