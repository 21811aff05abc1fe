"""The base of image classification: images in memory as bytes, random crops of whole batches, pictures."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ode_runner.batch import Split, TaskSpec
from ode_runner.devices.transfer import send
from ode_runner.errors import RefusedInput
from ode_runner.plots.animation import Picture
from ode_runner.plots.difficulty import draw_hardest_and_easiest
from ode_runner.plots.figure_types import Figure
from ode_runner.plots.images import draw_confusion, draw_mistakes
from ode_runner.tasks.base import ModelView, PerSampleCost
from ode_runner.tasks.classification import Classification, Samples


class ImageClassification(Classification):
    """Images of `classes` classes, stored as bytes from 0 to `brightest` and scaled to [0, 1] in each batch.

    Training images are shifted at random by up to `crop_padding` pixels in each direction, with zeros at the borders.
    Then `transforms`, such as those of torchvision.transforms.v2, are applied to each image separately.
    """

    gives_images: ClassVar[bool] = True
    ink_on_paper: ClassVar[bool] = True  # large values are drawn dark in images of one channel

    def __init__(
        self,
        splits: dict[Split, Samples],
        *,
        classes: int,
        brightest: int,
        crop_padding: int,
        transforms: Sequence[nn.Module] = (),
        seed: int,
        device: torch.device,
    ) -> None:
        if crop_padding < 0:
            raise RefusedInput(f"task.crop_padding must be 0 or more pixels, not {crop_padding}.")
        super().__init__(splits, seed=seed, device=device)
        self.spec = TaskSpec(
            input_shape=tuple(splits[Split.TRAIN].inputs.shape[1:]),
            output_shape=(classes,),
        )
        self.brightest = brightest
        self.crop_padding = crop_padding
        self.transforms = nn.Sequential(*transforms)

    def prepare(self, inputs: Tensor, generator: torch.Generator | None) -> Tensor:
        if generator is not None and self.crop_padding:
            inputs = random_crop(inputs, self.crop_padding, generator)
        if generator is not None and len(self.transforms):
            inputs = transformed(inputs, self.transforms, generator)
        return inputs.float() / self.brightest

    def figures_of_per_sample_cost(self, found: PerSampleCost) -> Iterator[tuple[str, Figure]]:
        yield from super().figures_of_per_sample_cost(found)
        test = self.splits[Split.TEST]
        yield (
            "difficulty_images",
            draw_hardest_and_easiest(
                test.inputs, test.targets, found.evaluations, names=self.class_names, ink_on_paper=self.ink_on_paper
            ),
        )

    def figures(self, view: ModelView) -> Iterator[tuple[str, Picture]]:
        yield from super().figures(view)  # first, since they do not need the model
        test = self.splits[Split.TEST]
        outputs = torch.cat([view.predict(self.prepare(part, None), None) for part in test.inputs.split(1000)])
        yield "confusion", draw_confusion(outputs, test.targets, names=self.class_names)
        yield (
            "mistakes",
            draw_mistakes(test.inputs, outputs, test.targets, names=self.class_names, ink_on_paper=self.ink_on_paper),
        )


def transformed(images: Tensor, transforms: nn.Module, generator: torch.Generator) -> Tensor:
    """Applies the transforms to each image (batch, channels, height, width) separately, seeded by `generator`.

    Raises:
        RefusedInput: a transform fails, or changes the shape of an image.
    """
    seed = int(torch.randint(2**62, (), generator=generator))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        try:
            changed = [transforms(image) for image in images]
        except (RuntimeError, TypeError, ValueError) as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise RefusedInput(
                f"task.transforms: they cannot be applied to an image of bytes ({reason[0]})."
            ) from error
    if any(image.shape != images.shape[1:] for image in changed):
        raise RefusedInput(
            f"task.transforms make an image of shape {tuple(changed[0].shape)} of one of {tuple(images.shape[1:])}: "
            "images must keep their size."
        )
    return torch.stack(changed)


def random_crop(images: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    """Pads each image (batch, channels, height, width) with `padding` zeros, and crops it at a random place.

    The whole batch is one gather; offsets come from the CPU generator, so that they are the same on any device.
    """
    batch, channels, height, width = images.shape
    across = partial(torch.arange, device=images.device)
    offsets = send(torch.randint(2 * padding + 1, (2, batch, 1), generator=generator), images.device)
    rows = (offsets[0] + across(height))[:, None, :, None]  # (batch, 1, height, 1)
    columns = (offsets[1] + across(width))[:, None, None, :]  # (batch, 1, 1, width)
    # All four axes are indexed, since a permuted result would run the whole network in channels-last layout, which is
    # slower.
    return F.pad(images, [padding] * 4)[
        across(batch)[:, None, None, None], across(channels)[:, None, None], rows, columns
    ]
