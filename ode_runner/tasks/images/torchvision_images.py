"""The base of tasks with image datasets that torchvision reads and downloads."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor, nn
from torchvision.datasets import VisionDataset

from ode_runner.batch import Split
from ode_runner.errors import RefusedInput
from ode_runner.tasks.classification import Samples, shuffled_splits
from ode_runner.tasks.images.base import ImageClassification
from ode_runner.tasks.images.data_folder import data_folder
from ode_runner.tasks.images.mnist_files import check_validation, first_and_last_line


class TorchvisionImages(ImageClassification):
    """The images of a dataset, held in memory as bytes; `validation` training images are set aside by seed."""

    dataset: ClassVar[type[VisionDataset]]

    def __init__(
        self,
        *,
        data_dir: str | None,
        validation: int,
        crop_padding: int,
        transforms: list[nn.Module],
        seed: int,
        device: torch.device,
    ) -> None:
        everything, test = (self._read(data_folder(data_dir), train=train) for train in (True, False))
        count = len(everything.targets)
        check_validation(validation, count)
        sizes = {Split.TRAIN: count - validation, Split.VALIDATION: validation}
        super().__init__(
            {**shuffled_splits(everything, sizes, seed), Split.TEST: test},
            classes=len(self.labels),
            brightest=255,
            crop_padding=crop_padding,
            transforms=transforms,
            seed=seed,
            device=device,
        )

    @classmethod
    def contents(cls, options: Mapping[str, Any]) -> dict[str, str | None]:
        return {"data_dir": cls.content(data_folder(options.get("data_dir")))}

    @classmethod
    def content(cls, place: Path) -> str | None:
        """A hash of the files in `place`, if these may differ from those that torchvision downloads."""
        del place
        return None

    @property
    def class_names(self) -> Sequence[str]:
        return self.labels

    def _read(self, place: Path, *, train: bool) -> Samples:
        """Reads the training or the test images, and downloads them if they are not there.

        Raises:
            RefusedInput: they are damaged, or could not be downloaded.
        """
        before = _entries(place) if place.is_dir() else None
        try:
            found = self._open(place, train=train)
        except (RuntimeError, OSError, ValueError, EOFError, KeyError) as error:
            self._remove_leftovers(place, before)
            raise RefusedInput(
                f"{self.dataset.__name__} cannot be read in {place}, nor downloaded ({first_and_last_line(error)}). "
                "Put its files there as torchvision keeps them, or point task.data_dir or ODE_RUN_DATA at them."
            ) from error
        self.labels: list[str] = list(found.classes)
        images = found.data if isinstance(found.data, Tensor) else torch.from_numpy(np.asarray(found.data))
        images = images[:, None] if images.dim() == 3 else images.permute(0, 3, 1, 2).contiguous()
        return Samples(images, torch.as_tensor(found.targets))

    def _open(self, place: Path, *, train: bool) -> Any:
        try:
            return self.dataset(place, train=train)
        except RuntimeError:  # torchvision raises this for missing or incomplete files
            place.mkdir(parents=True, exist_ok=True)
            with FileLock(self._lock(place)):
                return self.dataset(place, train=train, download=True)

    def _lock(self, place: Path) -> Path:
        return place / f"{self.dataset.__name__}.lock"

    def _remove_leftovers(self, place: Path, before: set[Path] | None) -> None:
        """Removes the lock and the empty folders of a failed download, but nothing that existed `before`.

        `before` is None if `place` itself did not exist.
        """
        lock = self._lock(place)
        for one in _entries(place) - (before or set()):
            if one == lock:
                lock.unlink()
            elif one.is_dir():
                _remove_empty_folders(one)
        if before is None:
            _remove_if_empty(place)


def _entries(folder: Path) -> set[Path]:
    """The entries of a folder; empty if it cannot be read."""
    with suppress(OSError):
        return set(folder.iterdir())
    return set()


def _remove_empty_folders(place: Path) -> None:
    for folder, *_ in os.walk(place, topdown=False):
        _remove_if_empty(Path(folder))


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):  # the folder is not empty
        folder.rmdir()
