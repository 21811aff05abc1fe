"""The 1,797 handwritten digits that scikit-learn ships."""

from typing import final

import torch
from sklearn.datasets import load_digits

from ode_runner.batch import Split
from ode_runner.errors import RefusedInput
from ode_runner.tasks.classification import Samples, shuffled_splits
from ode_runner.tasks.images import ImageClassification

BRIGHTEST = 16


@final
class Digits(ImageClassification):
    """8x8 images in 17 shades; `validation` and `test` are counts, the rest is for training.

    Alpaydin, Kaynak. Optical Recognition of Handwritten Digits. UCI Machine Learning Repository 1998.
    """

    def __init__(self, *, validation: int, test: int, crop_padding: int, seed: int, device: torch.device) -> None:
        splits = digits_splits(validation, test, seed)
        super().__init__(splits, classes=10, brightest=BRIGHTEST, crop_padding=crop_padding, seed=seed, device=device)


def digits_splits(validation: int, test: int, seed: int) -> dict[Split, Samples]:
    """Images (count, 1, 8, 8) of whole numbers from 0 to BRIGHTEST, in splits drawn by `seed`.

    Raises:
        RefusedInput: the counts leave nothing for training, or are less than 1.
    """
    images = load_digits()
    samples = Samples(torch.tensor(images.images, dtype=torch.uint8)[:, None], torch.tensor(images.target))
    train = len(samples.targets) - validation - test
    if min(validation, test, train) < 1:
        raise RefusedInput(
            f"task.validation={validation} and task.test={test} must each be at least 1 and leave something of "
            f"{len(samples.targets)} images."
        )
    return shuffled_splits(samples, {Split.TRAIN: train, Split.VALIDATION: validation, Split.TEST: test}, seed)
