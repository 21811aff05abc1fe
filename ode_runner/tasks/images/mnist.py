"""The task of classifying MNIST, or any dataset in its file format."""

from collections.abc import Mapping
from typing import Any, final

import torch

from ode_runner.batch import Split
from ode_runner.tasks.classification import shuffled_splits
from ode_runner.tasks.images.base import ImageClassification
from ode_runner.tasks.images.mnist_files import check_validation, dataset_contents, read_dataset


@final
class Mnist(ImageClassification):
    """Four idx files, held in memory as bytes; `validation` training images are set aside by seed.

    `data_dir` is a folder with the files, plain or gzipped, or one in which torchvision keeps them as MNIST/raw. None
    means the environment variable ODE_RUN_DATA, else ./data. MNIST is downloaded there if there are no idx files.

    LeCun, Bottou, Bengio, Haffner. Gradient-Based Learning Applied to Document Recognition. Proc. IEEE 1998.
    """

    def __init__(
        self, *, data_dir: str | None, validation: int, crop_padding: int, seed: int, device: torch.device
    ) -> None:
        everything, test = read_dataset(data_dir)
        count = len(everything.targets)
        check_validation(validation, count)
        sizes = {Split.TRAIN: count - validation, Split.VALIDATION: validation}
        splits = {**shuffled_splits(everything, sizes, seed), Split.TEST: test}
        classes = int(everything.targets.max()) + 1
        super().__init__(splits, classes=classes, brightest=255, crop_padding=crop_padding, seed=seed, device=device)

    @classmethod
    def contents(cls, options: Mapping[str, Any]) -> dict[str, str | None]:
        return dataset_contents(options)
