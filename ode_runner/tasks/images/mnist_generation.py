"""The task of generating images of MNIST, or of any dataset in its file format."""

from collections.abc import Mapping
from typing import Any, ClassVar, final

import torch

from ode_runner.tasks.images.image_generation import ImageGeneration
from ode_runner.tasks.images.mnist_files import check_validation, dataset_contents, read_dataset


@final
class MnistGeneration(ImageGeneration):
    """The images of four idx files, found as for `mnist`; `validation` training images are set aside by seed.

    LeCun, Bottou, Bengio, Haffner. Gradient-Based Learning Applied to Document Recognition. Proc. IEEE 1998.
    """

    dataset: ClassVar[str] = "mnist"

    def __init__(
        self,
        *,
        data_dir: str | None,
        validation: int,
        samples: int,
        conditional: bool,
        classifier_seed: int,
        seed: int,
        device: torch.device,
    ) -> None:
        everything, test = read_dataset(data_dir)
        check_validation(validation, len(everything.targets))
        super().__init__(
            everything, test, validation=validation, samples=samples, conditional=conditional, brightest=255,
            classifier_seed=classifier_seed, seed=seed, device=device,
        )  # fmt: skip

    @classmethod
    def contents(cls, options: Mapping[str, Any]) -> dict[str, str | None]:
        return dataset_contents(options)
