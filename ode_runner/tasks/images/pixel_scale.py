"""In which units a density model is given the pixels of images, and what that does to a density."""

import abc
from typing import Literal, final

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ode_runner.errors import RefusedInput

MARGIN = 0.05  # of logits, so that black and white stay finite


class PixelScale(abc.ABC):
    """A map of images (batch, *shape) with pixels from 0 to `levels`, element by element and increasing."""

    @abc.abstractmethod
    def inputs(self, images: Tensor) -> Tensor:
        """Pixels as a model receives them."""

    @abc.abstractmethod
    def images(self, inputs: Tensor) -> Tensor:
        """The reverse of `inputs`."""

    @abc.abstractmethod
    def log_determinant(self, inputs: Tensor) -> Tensor:
        """log |d inputs / d images| of each, (batch,), to be added to a log density of inputs."""


@final
class Standardised(PixelScale):
    """Every pixel less its mean and divided by its standard deviation, of images with noise within a level."""

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

    def inputs(self, images: Tensor) -> Tensor:
        return torch.logit(MARGIN + self.slope * images)

    def images(self, inputs: Tensor) -> Tensor:
        return (inputs.sigmoid() - MARGIN) / self.slope

    def log_determinant(self, inputs: Tensor) -> Tensor:
        log_slope = inputs.new_tensor(self.slope).log() - logsigmoid(inputs) - logsigmoid(-inputs)
        return log_slope.flatten(1).sum(dim=1)


def pixel_scale(kind: Literal["standard", "logit"], images: Tensor, *, levels: int) -> PixelScale:
    """The scale of this kind, from training images of whole numbers less than `levels`.

    Raises:
        RefusedInput: there is no such scale.
    """
    if kind not in {"standard", "logit"}:
        raise RefusedInput(f"task.scale must be standard or logit, not {kind!r}.")
    return Standardised(images) if kind == "standard" else Logits(levels)
