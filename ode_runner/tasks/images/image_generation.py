"""The base of tasks that generate images: data, metrics of sets of samples, pictures."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ode_runner.batch import Answer, Batch, Drawn, Outputs, Split, TaskSpec
from ode_runner.devices.transfer import send
from ode_runner.errors import RefusedInput
from ode_runner.plots.animation import Picture
from ode_runner.plots.curves import draw_curves
from ode_runner.plots.figure_types import Figure
from ode_runner.plots.image_samples import (
    animate_images,
    draw_images,
    draw_images_beside,
    draw_images_on_the_way,
    draw_nearest,
)
from ode_runner.tasks.base import ModelView
from ode_runner.tasks.batches import in_batches, shuffler
from ode_runner.tasks.classification import Samples, shuffled_splits
from ode_runner.tasks.images.feature_metrics import NEIGHBOURS, nearest
from ode_runner.tasks.images.image_classifier import ImageClassifier, classifier_of, scaled
from ode_runner.tasks.images.image_metrics import BY_CLASSIFIER, Images, image_metrics
from ode_runner.tasks.sample_metrics import spread
from ode_runner.tasks.sampled import SampledTask
from ode_runner.tasks.set_metrics import with_floors
from ode_runner.tasks.sizes import check_counts
from ode_runner.types import Scalar, Trajectory

SHOWN, FEW, TIMES, FRAMES = 64, 8, 6, 31  # images of a picture, a few of these, times on their way, frames
MOST_SHOWN = 400  # images in a picture
APART = 2**52  # keeps the noise seeds apart from those that shuffle batches


class ImageGeneration(SampledTask):
    """Images with integer pixels from 0 to `brightest`, as training data for models that generate images.

    Model inputs are from -1 to 1, with uniform noise of one level added (dequantisation); in training it is new in
    every epoch. Samples are rounded down to integers. `samples` samples, under the conditions of test images, are
    compared with as many test images (or all). The floor of a metric is its value for as many training images instead
    of samples.

    - `sw2`: the sliced Wasserstein distance of pixels, with all classes as one set.
    - `frechet`: the Frechet distance in the features of our own classifier. It is not the FID.
    - `precision`, `recall`, `density`, `coverage`: see `neighbourhoods`, in the same features.
    - `class_accuracy`: with conditions, the share of samples that are classified as their condition says; its floor is
      that of test images.
    - `nearest_training`: the mean distance in pixels to the nearest training image; its floor is that of test images. A
      sample much closer than this is a copy.

    A model that gives log densities is trained by maximum likelihood, and is also judged by its samples.

    Args:
        everything: images for training and validation; the classifier is trained on all of them.
        test: images, the same for every seed.
        validation: number of images to set aside, by seed.
        samples: number of samples by which a model is judged.
        conditional: whether models receive the class of an image.
        brightest: largest pixel value.
        classifier_seed: seed of the classifier.
    """

    gives_images: ClassVar[bool] = True
    needs: ClassVar[frozenset[Answer]] = frozenset({Answer.SAMPLES})
    test_only: ClassVar[frozenset[str]] = frozenset({"samples", "classifier_seed"})
    objective: ClassVar[str] = "loss"
    higher_is_better: ClassVar[bool] = False
    finely_solved: ClassVar[int | None] = 16  # a fine solve of one image costs as much as ten samples
    dataset: ClassVar[str]  # name in the classifier's file name

    def __init__(
        self,
        everything: Samples,
        test: Samples,
        *,
        validation: int,
        samples: int,
        conditional: bool,
        brightest: int,
        classifier_seed: int,
        seed: int,
        device: torch.device,
    ) -> None:
        check_counts(NEIGHBOURS + 1, samples=samples)
        _check_neighbourhoods(learned=len(everything.targets) - validation, tested=len(test.targets))
        self.everything, self.test = everything, test  # on the CPU, as the classifier is
        self.splits = {split: part.to(device) for split, part in _splits(everything, test, validation, seed).items()}
        self.classes, self.samples, self.brightest = int(everything.targets.max()) + 1, samples, brightest
        self.level = 2 / (brightest + 1)
        self.classifier_seed, self.seed, self.ts = classifier_seed, seed, torch.tensor([0.0, 1.0], device=device)
        self.classifier = cache(self._classifier)
        variance = float(self.splits[Split.TRAIN].inputs.float().var(correction=0)) + 1 / 12  # plus the noise
        self.spec = TaskSpec(
            input_shape=tuple(everything.inputs.shape[1:]),
            output_shape=(),
            condition=self.classes if conditional else 0,
            std=self.level * variance**0.5,
        )

    def size(self, split: Split) -> int:
        return len(self.splits[split].targets)

    def batches(self, split: Split, *, batch_size: int, epoch: int) -> Iterator[Batch]:
        images, order = self.splits[split], shuffler(split, seed=self.seed, epoch=epoch)
        noise = torch.Generator().manual_seed(APART + (self.seed << 20) + (epoch if split is Split.TRAIN else 0))
        for chosen in in_batches(self.size(split), batch_size, order, device=self.ts.device):
            levels, labels = images.inputs[chosen], images.targets[chosen]
            data = (levels + send(torch.rand(levels.shape, generator=noise), self.ts.device)) * self.level - 1
            condition = [one_hot(labels, self.classes)] if self.spec.condition else []
            yield Batch(torch.cat([data.flatten(1), *condition], dim=1) if condition else data, self.ts, labels)

    def loss(self, outputs: Outputs, batch: Batch) -> Scalar:
        return -outputs.values.mean()

    def metrics(self, outputs: Outputs, batch: Batch) -> dict[str, Scalar]:
        return {}

    def sampled_conditions(self) -> Tensor:
        """The classes of test images, one-hot."""
        labels = self._labels(self.samples).to(self.ts.device)
        return one_hot(labels, self.classes).float()[:, : self.spec.condition]

    def own_units(self, points: Tensor) -> Tensor:
        """Integer images (count, *input_shape) from 0 to `brightest`, from a model's images, which may be flat."""
        levels = ((points.float() + 1) / self.level).floor().clamp(0, self.brightest)
        return levels.view(len(points), *self.spec.input_shape)

    def model_metrics(self, view: ModelView) -> dict[str, float]:
        images = self.own_units(self.drawn(view).path[-1]).cpu()
        samples = Images(images, self._labels(len(images)) if self.spec.condition else None)
        test = Images(self.test.inputs[: len(images)], self.test.targets[: len(images)])
        train = self.splits[Split.TRAIN].inputs.cpu()
        return with_floors(image_metrics(samples, test=test, train=train, classifier=self.classifier(view.output_dir)))

    def spread(self) -> float:
        return spread(scaled(self.test.inputs, self.brightest))

    def measured_with(self, view: ModelView) -> dict[str, str]:
        used = self.classifier(view.output_dir)
        names = [*BY_CLASSIFIER, *(f"{name}_floor" for name in BY_CLASSIFIER)]
        return dict.fromkeys(names, f"classifier {used.hash}, of accuracy {used.accuracy:.4f}")

    def figures(self, view: ModelView) -> Iterator[tuple[str, Picture]]:
        yield "curves", draw_curves(view.history)
        assert view.sample is not None
        samples, test = self.drawn(view).path[-1], self.test.inputs
        counts = {"tested": len(test), "drawn": len(samples)}
        images = self._in_order_of_classes(self.own_units(samples[:SHOWN]))
        test = self._in_order_of_classes(test[:SHOWN])
        yield "samples", draw_images_beside(test, images, brightest=self.brightest, **counts)
        yield "nearest_training", self._draw_nearest(images[:: max(1, len(images) // FEW)])
        path = view.sample(FEW, TIMES, self.given(FEW)).path
        yield "samples_on_the_way", draw_images_on_the_way(self._along(path), brightest=self.brightest)
        if view.animate:
            path = view.sample(SHOWN, FRAMES, self.given(SHOWN)).path
            yield "samples_in_motion", animate_images(self._along(path), brightest=self.brightest)

    def sample_figures(self, drawn: Drawn) -> Iterator[tuple[str, Figure]]:
        images = self._in_order_of_classes(self.own_units(drawn.path[-1][:MOST_SHOWN]))
        yield "samples", draw_images(images, brightest=self.brightest, samples=drawn.path.shape[1])

    def _draw_nearest(self, samples: Tensor) -> Figure:
        train = self.splits[Split.TRAIN].inputs
        places, _ = nearest(samples, train.float())
        return draw_nearest(samples, train[places], brightest=self.brightest)

    def _along(self, path: Trajectory) -> Tensor:
        """The images of a path, (time, sample, *input_shape)."""
        return torch.stack([self.own_units(points) for points in path])

    def _in_order_of_classes(self, images: Tensor) -> Tensor:
        """Sorts images, drawn under the conditions of test images, by class."""
        return images[self._labels(len(images)).argsort(stable=True)] if self.spec.condition else images

    def _labels(self, count: int) -> Tensor:
        """The classes of `count` test images, repeated from the first on if there are too few; on the CPU."""
        return self.test.targets[torch.arange(count) % len(self.test.targets)]

    def _classifier(self, outputs: Path) -> ImageClassifier:
        return classifier_of(
            self.everything, self.test, classes=self.classes, brightest=self.brightest, seed=self.classifier_seed,
            name=self.dataset, outputs=outputs,
        )  # fmt: skip


def _check_neighbourhoods(*, learned: int, tested: int) -> None:
    """Raises RefusedInput if there are too few images for the neighbourhood metrics."""
    for count, what in ((learned, "to learn from, with task.validation as it is"), (tested, "of the test")):
        if count <= NEIGHBOURS:
            raise RefusedInput(f"there are {count} images {what}, and {NEIGHBOURS + 1} are the least.")


def _splits(everything: Samples, test: Samples, validation: int, seed: int) -> dict[Split, Samples]:
    sizes = {Split.TRAIN: len(everything.targets) - validation, Split.VALIDATION: validation}
    return {**shuffled_splits(everything, sizes, seed), Split.TEST: test}
