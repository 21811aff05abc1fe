"""The task of classifying scikit-learn's digits as sequences of rows."""

from typing import final

import torch
from torch import Tensor

from ode_runner.batch import TaskSpec
from ode_runner.tasks.classification import Classification
from ode_runner.tasks.images.digit_images import BRIGHTEST, digits_splits


@final
class DigitsTokens(Classification):
    """Ten digits: an image of 8x8 pixels is a sequence of 8 positions, its rows, each with 8 numbers from 0 to 1.

    Alpaydin, Kaynak. Optical Recognition of Handwritten Digits. UCI Machine Learning Repository 1998.
    """

    def __init__(self, *, validation: int, test: int, seed: int, device: torch.device) -> None:
        super().__init__(digits_splits(validation, test, seed), seed=seed, device=device)
        self.spec = TaskSpec(input_shape=(8, 8), output_shape=(10,))

    def prepare(self, inputs: Tensor, generator: torch.Generator | None) -> Tensor:
        del generator
        return inputs[:, 0].float() / BRIGHTEST
