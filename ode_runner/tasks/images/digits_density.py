"""The task of learning the density of handwritten digits."""

import math
from collections.abc import Iterator
from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from ode_runner.batch import Batch, Drawn, Outputs, Split, TaskSpec
from ode_runner.errors import RefusedInput
from ode_runner.plots.animation import Picture
from ode_runner.plots.curves import draw_curves
from ode_runner.plots.figure_types import Figure
from ode_runner.plots.image_samples import draw_images, draw_images_beside, draw_images_on_the_way
from ode_runner.tasks.base import ModelView
from ode_runner.tasks.density import TOLERATED, DensityTask
from ode_runner.tasks.images.digit_images import BRIGHTEST, digits_splits
from ode_runner.tasks.images.pixel_scale import pixel_scale
from ode_runner.tasks.sizes import check_counts
from ode_runner.types import Scalar

SHAPE = (1, 8, 8)
MOST_SHOWN = 400  # images in a picture
SHOWN, TIMES = 40, 5  # images in a picture, and times at which samples are shown
APART = 2**52  # keeps the noise seeds apart from those that shuffle batches


@final
class DigitsDensity(DensityTask):
    """The 1,797 digits of `digits` as points in 64 dimensions: 8x8 pixels of 17 levels, dequantised by noise.

    Integers have no density, so uniform noise of one level is added; in training it is new in every epoch. The mean of
    -log p is then an upper bound of that of the distribution which p implies for the integers. It is in nats per image
    with pixels from 0 to 17; `bits_per_dim` is the same in bits per pixel, log2 17 = 4.0875 for a uniform distribution.

    Args:
        scale: of a model's inputs: `standard` standardises each pixel by its mean and standard deviation in the
            training split, `logit` takes logits, which moves black and white far apart.
        passes: how often an epoch contains each image, each time with other noise; a validation, with exact traces, is
            expensive compared with a single pass over so few images.

    Alpaydin, Kaynak. Optical Recognition of Handwritten Digits. UCI Machine Learning Repository 1998. Dequantisation:
    Theis, van den Oord, Bethge. A Note on the Evaluation of Generative Models. ICLR 2016.
    """

    gives_images: ClassVar[bool] = True
    likelihoods: ClassVar[tuple[str, ...]] = (*DensityTask.likelihoods, "bits_per_dim")

    def __init__(
        self, *, validation: int, test: int, passes: int, scale: Literal["standard", "logit"], seed: int,
        device: torch.device,
    ) -> None:  # fmt: skip
        check_counts(2, validation=validation, test=test)
        check_counts(1, passes=passes)
        levels = {split: samples.inputs.float() for split, samples in digits_splits(validation, test, seed).items()}
        train = levels[Split.TRAIN]
        self.scale = pixel_scale(scale, train.to(device), levels=BRIGHTEST + 1)
        generator = torch.Generator().manual_seed(seed)
        noisy = {split: x + torch.rand(x.shape, generator=generator) for split, x in levels.items()}
        points = {split: self.scale.inputs(x.to(device)) for split, x in {**noisy, Split.TRAIN: train}.items()}
        points[Split.TRAIN] = points[Split.TRAIN].repeat(passes, 1, 1, 1)
        super().__init__(points, entropy=None, seed=seed, device=device)
        self.bits = 1 / (math.prod(SHAPE) * math.log(2))  # bits per pixel for one nat per image
        self.tolerated = TOLERATED / self.bits
        self.spec = TaskSpec(input_shape=SHAPE, output_shape=())

    def batches(self, split: Split, *, batch_size: int, epoch: int) -> Iterator[Batch]:
        """Adds noise to the inputs of training images, which are stored as integers; their targets have none."""
        generator = torch.Generator().manual_seed(APART + (self.seed << 20) + epoch)
        for batch in super().batches(split, batch_size=batch_size, epoch=epoch):
            noise = torch.rand(batch.inputs.shape, generator=generator).to(batch.inputs)
            images = self.scale.images(batch.inputs).round() + noise
            yield batch._replace(inputs=self.scale.inputs(images)) if split is Split.TRAIN else batch

    def log_determinant(self, inputs: Tensor) -> Tensor:
        return self.scale.log_determinant(inputs)

    def metrics(self, outputs: Outputs, batch: Batch) -> dict[str, Scalar]:
        found = super().metrics(outputs, batch)
        return {**found, "bits_per_dim": self.bits * found["nll"]}

    def model_metrics(self, view: ModelView) -> dict[str, float]:
        found = super().model_metrics(view)
        fine = {"bits_per_dim_fine": self.bits * found["nll_fine"]} if "nll_fine" in found else {}
        return found | fine

    def figures(self, view: ModelView) -> Iterator[tuple[str, Picture]]:
        yield "curves", draw_curves(view.history, quality="bits_per_dim")
        if view.sample is None:
            return
        path = self._levels(view.sample(SHOWN, TIMES, []).path)
        test, tested = self._levels(self.points[Split.TEST][:SHOWN]), len(self.points[Split.TEST])
        yield "samples", draw_images_beside(test, path[-1], brightest=BRIGHTEST, tested=tested, drawn=path.shape[1])
        yield "samples_on_the_way", draw_images_on_the_way(path, brightest=BRIGHTEST)

    def sample_figures(self, drawn: Drawn) -> Iterator[tuple[str, Figure]]:
        yield (
            "samples",
            draw_images(self._levels(drawn.path[-1][:MOST_SHOWN]), brightest=BRIGHTEST, samples=drawn.path.shape[1]),
        )

    def own_units(self, points: Tensor) -> Tensor:
        images = points.unflatten(-1, SHAPE) if points.shape[-1] == math.prod(SHAPE) else points
        return self.scale.images(images)

    def as_inputs(self, data: Tensor) -> Tensor:
        low, high = self.scale.limits
        outside = data[data.isfinite() & ~((data > low) & (data < high))]
        if outside.numel():
            raise RefusedInput(
                f"inputs: with task.scale=logit, pixels are between {low:.3g} and {high:.3g}, and "
                f"{float(outside[0]):g} is among them."
            )
        return self.scale.inputs(data)

    def _levels(self, inputs: Tensor) -> Tensor:
        """Images (..., 1, 8, 8) as integers, clipped to the valid range; inputs may be flat and outside it."""
        return self.own_units(inputs).floor().clamp(0, BRIGHTEST)
