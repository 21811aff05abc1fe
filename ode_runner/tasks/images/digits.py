"""The 1,797 handwritten digits that scikit-learn ships."""

from typing import final

import torch

from ode_runner.tasks.images.base import ImageClassification
from ode_runner.tasks.images.digit_images import BRIGHTEST, digits_splits


@final
class Digits(ImageClassification):
    """8x8 images with 17 grey levels; `validation` and `test` are counts, the other images are for training.

    Alpaydin, Kaynak. Optical Recognition of Handwritten Digits. UCI Machine Learning Repository 1998.
    """

    def __init__(self, *, validation: int, test: int, crop_padding: int, seed: int, device: torch.device) -> None:
        splits = digits_splits(validation, test, seed)
        super().__init__(splits, classes=10, brightest=BRIGHTEST, crop_padding=crop_padding, seed=seed, device=device)
