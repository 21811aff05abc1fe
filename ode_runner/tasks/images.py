"""What the image tasks share: bytes in memory, crops on whole batches, pictures."""

from collections.abc import Iterator
from functools import partial

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from ode_runner.batch import Split, TaskSpec
from ode_runner.errors import RefusedInput
from ode_runner.plots.animation import Picture
from ode_runner.plots.difficulty import draw_hardest_and_easiest
from ode_runner.plots.images import draw_confusion, draw_mistakes
from ode_runner.tasks.base import ModelView, PerSampleCost
from ode_runner.tasks.classification import Classification, Samples
from ode_runner.transfer import send


class ImageClassification(Classification):
    """Images of `classes` classes, stored as bytes from 0 to `brightest` and scaled to [0, 1] batch by batch.

    Training images are shifted at random by up to `crop_padding` pixels each way, zeros moving in.
    """

    def __init__(
        self,
        splits: dict[Split, Samples],
        *,
        classes: int,
        brightest: int,
        crop_padding: int,
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

    def prepare(self, inputs: Tensor, generator: torch.Generator | None) -> Tensor:
        if generator is not None and self.crop_padding:
            inputs = random_crop(inputs, self.crop_padding, generator)
        return inputs.float() / self.brightest

    def figures_of_per_sample_cost(self, found: PerSampleCost) -> Iterator[tuple[str, Figure]]:
        yield from super().figures_of_per_sample_cost(found)
        test = self.splits[Split.TEST]
        yield "difficulty_images", draw_hardest_and_easiest(test.inputs, test.targets, found.evaluations)

    def figures(self, view: ModelView) -> Iterator[tuple[str, Picture]]:
        yield from super().figures(view)  # first, for they ask nothing of the model
        test = self.splits[Split.TEST]
        outputs = torch.cat([view.predict(self.prepare(part, None), None) for part in test.inputs.split(1000)])
        yield "confusion", draw_confusion(outputs, test.targets)
        yield "mistakes", draw_mistakes(test.inputs, outputs, test.targets)


def random_crop(images: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    """Each image (batch, channels, height, width) in a random place on a border of `padding` zeros, cropped back.

    One gather for the whole batch; offsets come from the CPU generator, so that they are the same on any device.
    """
    batch, channels, height, width = images.shape
    across = partial(torch.arange, device=images.device)
    offsets = send(torch.randint(2 * padding + 1, (2, batch, 1), generator=generator), images.device)
    rows = (offsets[0] + across(height))[:, None, :, None]  # (batch, 1, height, 1)
    columns = (offsets[1] + across(width))[:, None, None, :]  # (batch, 1, 1, width)
    # All four axes are indexed: a permuted result would put the whole network into the slower channels-last layout.
    return F.pad(images, [padding] * 4)[
        across(batch)[:, None, None, None], across(channels)[:, None, None], rows, columns
    ]
