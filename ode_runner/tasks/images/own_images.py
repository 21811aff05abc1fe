"""The task of classifying the user's images, in one folder for each class."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self, final

import torch
from torch import Tensor, nn

from ode_runner.batch import Split
from ode_runner.errors import RefusedInput
from ode_runner.tasks.classification import UNKNOWN, Samples, shuffled_splits
from ode_runner.tasks.images.base import ImageClassification
from ode_runner.tasks.images.drawn_shapes import CLASSES, drawn_shapes
from ode_runner.tasks.images.image_files import content_of, find_images, read_images
from ode_runner.tasks.own_data import OwnDataTask
from ode_runner.tasks.series.series_splits import share_of

DRAWN = 600  # generated shapes


@dataclass(frozen=True)
class Named:
    """Images with their names and classes."""

    images: Tensor  # (images, channels, height, width), bytes
    names: list[str]
    labels: list[str]


@final
class OwnImages(ImageClassification, OwnDataTask):
    """Images in one subfolder for each class, or in `train` and `test`, each with one subfolder for each class.

    Without a `test` folder, validation and test are drawn by seed; with one, `validation` is a share of `train`. Every
    image is resized and cropped to `size`, without distortion. Without a folder, images are generated shapes.
    """

    ink_on_paper: ClassVar[bool] = False

    def __init__(
        self,
        *,
        folder: str | None,
        size: list[int],
        colour: bool,
        validation: float,
        test: float,
        crop_padding: int,
        transforms: list[nn.Module],
        seed: int,
        device: torch.device,
    ) -> None:
        if len(size) != 2 or min(size) < 4:
            raise RefusedInput(f"task.size={size} must be height and width in pixels, at least 4, such as [32,32].")
        self.sides, self.colour = (size[0], size[1]), colour
        self.folder = "shapes drawn by the program" if folder is None else folder
        trained, tested = (self._drawn(), None) if folder is None else self._read(Path(folder))
        self.labels = sorted(set(trained.labels))
        self._check_labels(tested or trained)
        places = self._split(len(trained.names), validation, 0.0 if tested else test, seed)
        self._check_learned({trained.labels[i] for i in places[Split.TRAIN].tolist()})
        splits = {split: self._samples(trained, own) for split, own in places.items()}
        self.separate = tested is not None  # the folder contains a test split
        self.tested = [trained.names[i] for i in places[Split.TEST].tolist()]
        if tested:
            splits[Split.TEST] = self._samples(tested, torch.arange(len(tested.names)))
            self.tested = tested.names
        super().__init__(
            splits,
            classes=len(self.labels),
            brightest=255,
            crop_padding=crop_padding,
            transforms=transforms,
            seed=seed,
            device=device,
        )

    def unused_options(self) -> Mapping[str, str]:
        return {"test": "task.folder has a folder test"} if self.separate else {}

    @classmethod
    def contents(cls, options: Mapping[str, Any]) -> dict[str, str | None]:
        folder = options.get("folder")
        return {"folder": None if folder is None else content_of(Path(str(folder)))}

    @property
    def class_names(self) -> Sequence[str]:
        return self.labels

    @property
    def sample_names(self) -> Sequence[str]:
        return self.tested

    def introduction(self) -> Iterator[str]:
        height, width = self.sides
        yield f"read {self.folder}: images of {height}x{width} pixels, {'in colour' if self.colour else 'in grey'}"
        for number, name in enumerate(self.labels):
            counts = [int((samples.targets == number).sum()) for samples in self.splits.values()]
            summary = ", ".join(f"{count} {split}" for split, count in zip(self.splits, counts, strict=True))
            yield f"  class {number}: {name} ({summary})"

    def with_data(self, path: Path) -> Self:
        files = find_images(path)
        new = copy.copy(self)
        new.tested = [file.name for file in files]
        targets = [self.labels.index(file.label) if file.label in self.labels else UNKNOWN for file in files]
        samples = Samples(read_images(files, size=self.sides, colour=self.colour), torch.tensor(targets))
        new.splits = dict.fromkeys(Split, samples.to(self.ts.device))
        return new

    def _drawn(self) -> Named:
        images, numbers = drawn_shapes(DRAWN, self.sides)
        if not self.colour:
            images = images.float().mean(dim=1, keepdim=True).to(torch.uint8)
        return Named(images, [f"{i}" for i in range(DRAWN)], [CLASSES[number] for number in numbers.tolist()])

    def _read(self, folder: Path) -> tuple[Named, Named | None]:
        """The images to be split, and the test images if they have a folder."""
        if (folder / "train").is_dir() and (folder / "test").is_dir():
            return self._read_classes(folder / "train"), self._read_classes(folder / "test")
        return self._read_classes(folder), None

    def _read_classes(self, folder: Path) -> Named:
        files = find_images(folder)
        stray = next((file for file in files if not file.label), None)
        if stray is not None:
            raise RefusedInput(f"{stray.path} lies in no folder of a class. Move it to {folder}/CLASS/{stray.name}.")
        images = read_images(files, size=self.sides, colour=self.colour)
        return Named(images, [file.name for file in files], [file.label for file in files])

    def _check_labels(self, tested: Named) -> None:
        if len(self.labels) < 2:
            raise RefusedInput(f"{self.folder} has the class {self.labels[0]} alone, and two are the least.")
        for name in sorted(set(tested.labels)):
            if name not in self.labels:
                raise RefusedInput(f"{self.folder}: 'test' has the class {name}, and 'train' has none of it.")

    def _check_learned(self, labels: set[str]) -> None:
        """Raises RefusedInput unless `labels` contain every class."""
        for name in self.labels:
            if name not in labels:
                raise RefusedInput(
                    f"{self.folder}: no image to learn from is of the class {name}. Give more images, or smaller "
                    "task.validation and task.test."
                )

    def _split(self, count: int, validation: float, test: float, seed: int) -> dict[Split, Tensor]:
        """The indices of the images of each split; an empty split gets those of training."""
        for name, part in (("validation", validation), ("test", test)):
            if not 0 <= part < 1:
                raise RefusedInput(f"task.{name} must be a part from 0 to below 1, not {part}.")
        sizes = {Split.VALIDATION: share_of(validation, count), Split.TEST: share_of(test, count)}
        left = count - sum(sizes.values())
        if left < 2:
            raise RefusedInput(f"{self.folder} has {count} images, of which less than 2 would be left to learn from.")
        numbers = torch.arange(count)
        parts = shuffled_splits(Samples(numbers, numbers), {Split.TRAIN: left, **sizes}, seed)
        own = {split: part.inputs for split, part in parts.items()}
        return {split: part if len(part) else own[Split.TRAIN] for split, part in own.items()}

    def _samples(self, named: Named, own: Tensor) -> Samples:
        targets = torch.tensor([self.labels.index(named.labels[i]) for i in own.tolist()])
        return Samples(named.images[own], targets)
