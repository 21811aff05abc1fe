"""The task of generating handwritten digits of 8x8 pixels."""

from typing import ClassVar, final

import torch

from ode_runner.batch import Split
from ode_runner.errors import RefusedInput
from ode_runner.tasks.classification import shuffled_splits
from ode_runner.tasks.images.digit_images import BRIGHTEST, read_digits
from ode_runner.tasks.images.feature_metrics import NEIGHBOURS
from ode_runner.tasks.images.image_generation import ImageGeneration
from ode_runner.tasks.sizes import check_counts

TEST_SEED = 0  # of the test images: for every run seed, the test images and the classifier are the same


@final
class DigitsGeneration(ImageGeneration):
    """The 1,797 digits of `digits`; `validation` and `test` are counts, the other images are for training.

    Alpaydin, Kaynak. Optical Recognition of Handwritten Digits. UCI Machine Learning Repository 1998.
    """

    dataset: ClassVar[str] = "digits"

    def __init__(
        self,
        *,
        validation: int,
        test: int,
        samples: int,
        conditional: bool,
        classifier_seed: int,
        seed: int,
        device: torch.device,
    ) -> None:
        check_counts(NEIGHBOURS + 1, test=test)  # metrics look for samples in neighbourhoods of these
        digits = read_digits()
        others = len(digits.targets) - test
        if min(validation, test, others - validation) < 1:
            raise RefusedInput(
                f"task.validation={validation} and task.test={test} must each be at least 1 and leave something of "
                f"{len(digits.targets)} images."
            )
        parts = shuffled_splits(digits, {Split.TEST: test, Split.TRAIN: others}, TEST_SEED)
        super().__init__(
            parts[Split.TRAIN], parts[Split.TEST], validation=validation, samples=samples, conditional=conditional,
            brightest=BRIGHTEST, classifier_seed=classifier_seed, seed=seed, device=device,
        )  # fmt: skip
