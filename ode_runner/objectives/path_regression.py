"""A regression along a Gaussian path: what flow matching and diffusion models minimise."""

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

VALIDATION = 0  # the seed of what is drawn outside training


class Coupled(NamedTuple):
    """Data, noise and conditions that go together, row by row."""

    data: State
    noise: State
    given: Sequence[Tensor]


class PathLearner(nn.Module, abc.ABC):
    """What the objective asks of a model. Times are (batch,), and shaped to broadcast where values are computed."""

    field: DenoisingField
    hidden: float  # share of conditions that are replaced by zeros in training
    regresses: str  # what is learned, along which path and how weighted: models that differ in it have other losses

    @abc.abstractmethod
    def encode(self, inputs: Tensor) -> Encoding:
        """The data, and the condition that is given with them, where there is one."""

    @abc.abstractmethod
    def times(self, uniform: Tensor) -> Tensor:
        """Times at which training looks, of numbers between 0 and 1."""

    @abc.abstractmethod
    def coupled(self, data: State, noise: State, given: Sequence[Tensor]) -> Coupled:
        """What goes together of a batch and of noise, or as much of something else to learn from."""

    @abc.abstractmethod
    def predict(self, t: Tensor, x: State, given: Sequence[Tensor], integrate: Integrate) -> State:
        """What is to be near the target, for one evaluation."""

    @abc.abstractmethod
    def target(self, t: Tensor, data: State, noise: State) -> State:
        """What a perfect model would predict in the mean."""

    @abc.abstractmethod
    def perfect(self, t: Tensor, x: State, given: Sequence[Tensor]) -> State | None:
        """What a perfect model would predict at states of a batch, where that is known; no evaluation."""

    @abc.abstractmethod
    def weight(self, t: Tensor) -> Tensor | None:
        """What multiplies a squared error; None: all count the same."""


@final
class PathRegression(Objective[PathLearner]):
    """The mean of weight(t) |predict(t, x_t) - target|^2 over elements, times and noise; one evaluation, no solve.

    Times are spread evenly over a batch. Outside training the same times and noise are drawn for every batch, so that
    weights are compared by the same numbers, and no condition is hidden. The least that the mean can be is not 0 but
    what data and noise leave open: of flow matching between two normal laws, pi / 2. Outside training it is told where
    the true field is known, for the times and the noise that were drawn.

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
        return Loss(_mean_square(predicted, target, weight), beside=floor)

    def measures(self, model: PathLearner) -> str:
        return f"the squared error of {model.regresses}"


def _mean_square(predicted: State, target: State, weight: Tensor | None) -> Scalar:
    if weight is None:
        return mse_loss(predicted, target)  # one operation for three, the same to the bit
    return (weight * (predicted - target).square()).mean()


class RandomDraw(NamedTuple):
    """Random numbers for a batch."""

    times: Tensor  # (batch,), one in each of as many equal parts of (0, 1)
    noise: State
    hiding: Tensor  # (batch,), between 0 and 1


def draw(data: State, *, training: bool) -> RandomDraw:
    """Random numbers for a batch; outside training the same ones every time.

    In single precision whatever that of the data, so that a repetition in another precision draws the same.
    """
    count, device = data.shape[0], data.device
    generator = None if training else torch.Generator(device).manual_seed(VALIDATION)
    normal = torch.randn(data.shape, generator=generator, device=device, dtype=torch.float32)
    within, hiding = torch.rand(2, count, generator=generator, device=device, dtype=torch.float32).unbind()
    times = within.add_(torch.arange(count, device=device, dtype=torch.float32)).div_(count)
    return RandomDraw(times.to(data.dtype), normal.to(data.dtype), hiding)
