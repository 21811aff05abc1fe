"""MNIST, or any dataset in its file format."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import final

import torch
from torch import Tensor
from torchvision.datasets import MNIST
from torchvision.datasets.mnist import read_image_file, read_label_file

from ode_runner.errors import RefusedInput
from ode_runner.tasks.base import Split
from ode_runner.tasks.classification import Samples, shuffled_splits
from ode_runner.tasks.images import ImageClassification

FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


@final
class Mnist(ImageClassification):
    """Four idx files, held in memory as bytes; `validation` training images are set aside by seed.

    `data_dir` is a folder with the files, or one in which torchvision keeps them as MNIST/raw; None takes the
    environment's ODE_RUN_DATA, else ./data. What is missing is downloaded there.

    LeCun, Bottou, Bengio, Haffner. Gradient-Based Learning Applied to Document Recognition. Proc. IEEE 1998.
    """

    def __init__(
        self, *, data_dir: str | None, validation: int, crop_padding: int, seed: int, device: torch.device
    ) -> None:
        folder = find_files(Path(data_dir or os.environ.get("ODE_RUN_DATA") or "data"))
        everything, test = (read_samples(folder, *FILES[part]) for part in ("train", "test"))
        train = len(everything.targets) - validation
        if min(train, validation) < 1:
            raise RefusedInput(
                f"task.validation={validation} must leave something of {len(everything.targets)} images."
            )
        splits = shuffled_splits(everything, {Split.TRAIN: train, Split.VALIDATION: validation}, seed)
        splits[Split.TEST] = test
        classes = int(everything.targets.max()) + 1
        if test.inputs.shape[1:] != everything.inputs.shape[1:] or int(test.targets.max()) >= classes:
            raise RefusedInput(f"the training and test files in {folder} are of different datasets.")
        super().__init__(splits, classes=classes, brightest=255, crop_padding=crop_padding, seed=seed, device=device)


def find_files(data_dir: Path) -> Path:
    """The folder that holds the four files; downloads them where none does.

    Raises:
        RefusedInput: they are not there and could not be downloaded.
    """
    wanted = [name for names in FILES.values() for name in names]
    for folder in (data_dir, data_dir / "raw", data_dir / "MNIST" / "raw"):
        if all((folder / name).is_file() for name in wanted):
            return folder
    try:
        MNIST(str(data_dir), download=True)
    except (RuntimeError, OSError) as error:
        raise RefusedInput(
            f"MNIST is not in {data_dir} and could not be downloaded ({_in_short(error)}). Put the four idx files in "
            f"{data_dir / 'MNIST' / 'raw'}, point task.data_dir or ODE_RUN_DATA at them, "
            "or use task=digits, which needs no download."
        ) from error
    return data_dir / "MNIST" / "raw"


def read_samples(folder: Path, images_name: str, labels_name: str) -> Samples:
    """Images (samples, 1, height, width) as bytes, and their labels.

    Raises:
        RefusedInput: a file is torn or in another format, or the two do not belong together.
    """
    images = _read(folder / images_name, read_image_file)
    labels = _read(folder / labels_name, read_label_file)
    if len(images) != len(labels) or not len(images):
        raise RefusedInput(f"{folder / images_name} has {len(images)} images, but {labels_name} {len(labels)} labels.")
    return Samples(images[:, None], labels)


def _read(path: Path, reader: Callable[[str], Tensor]) -> Tensor:
    try:
        return reader(str(path))
    except Exception as error:  # torchvision asserts, raises and lets NumPy raise, all for a damaged file
        raise RefusedInput(
            f"{path} is damaged or not in MNIST's idx format ({_in_short(error)}). Delete it and run again to "
            "download it afresh, or point task.data_dir elsewhere."
        ) from error


def _in_short(error: BaseException) -> str:
    """What failed and why: torchvision says it in the first and the last line, with every mirror in between."""
    lines = (str(error).strip() or type(error).__name__).splitlines()
    return " ".join(line[:120] for line in dict.fromkeys((lines[0], lines[-1])))
