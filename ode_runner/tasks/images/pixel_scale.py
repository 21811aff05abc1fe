"""The scaling of pixels for density models, and its log determinant."""

import abc
import math
from typing import Literal, final

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ode_runner.errors import RefusedInput

MARGIN = 0.05  # keeps the logits of black and white finite


class PixelScale(abc.ABC):
    """An increasing elementwise map of images (batch, *shape) with pixels from 0 to `levels`."""

    limits: tuple[float, float] = (-math.inf, math.inf)  # between which a pixel has an input

    @abc.abstractmethod
    def inputs(self, images: Tensor) -> Tensor:
        """Pixels as inputs of a model."""

    @abc.abstractmethod
    def images(self, inputs: Tensor) -> Tensor:
        """The inverse of `inputs`."""

    @abc.abstractmethod
    def log_determinant(self, inputs: Tensor) -> Tensor:
        """log |d inputs / d images| for each, (batch,), to be added to a log density of inputs."""


@final
class Standardised(PixelScale):
    """Standardises every pixel by its mean and standard deviation over images, including the noise of one level."""

    def __init__(self, images: Tensor) -> None:
        self.mean = images.mean(dim=0) + 0.5
        self.std = (images.var(dim=0, correction=0) + 1 / 12).sqrt()  # at least that of the noise

    def inputs(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std

    def images(self, inputs: Tensor) -> Tensor:
        return inputs * self.std + self.mean

    def log_determinant(self, inputs: Tensor) -> Tensor:
        return -self.std.double().log().sum().expand(len(inputs)).to(inputs)


@final
class Logits(PixelScale):
    """log(p / (1 - p)) of p = a + (1 - 2a) x / levels, a = 0.05.

    Dinh, Sohl-Dickstein, Bengio. Density Estimation using Real NVP. ICLR 2017, section 4.1.
    """

    def __init__(self, levels: int) -> None:
        self.slope = (1 - 2 * MARGIN) / levels
        self.limits = (-MARGIN / self.slope, (1 - MARGIN) / self.slope)

    def inputs(self, images: Tensor) -> Tensor:
        return torch.logit(MARGIN + self.slope * images)

    def images(self, inputs: Tensor) -> Tensor:
        return (inputs.sigmoid() - MARGIN) / self.slope

    def log_determinant(self, inputs: Tensor) -> Tensor:
        log_slope = inputs.new_tensor(self.slope).log() - logsigmoid(inputs) - logsigmoid(-inputs)
        return log_slope.flatten(1).sum(dim=1)


def pixel_scale(kind: Literal["standard", "logit"], images: Tensor, *, levels: int) -> PixelScale:
    """The scale of this kind, fitted to training images of integers below `levels`.

    Raises:
        RefusedInput: there is no such scale.
    """
    if kind not in {"standard", "logit"}:
        raise RefusedInput(f"task.scale must be standard or logit, not {kind!r}.")
    return Standardised(images) if kind == "standard" else Logits(levels)
