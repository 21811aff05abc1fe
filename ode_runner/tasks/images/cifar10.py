"""CIFAR-10."""

from typing import ClassVar, final

from torchvision.datasets import CIFAR10, VisionDataset

from ode_runner.tasks.images.torchvision_images import TorchvisionImages


@final
class Cifar10(TorchvisionImages):
    """Photographs of ten classes, 32x32 pixels in three colours; torchvision verifies the checksums of the files.

    Krizhevsky. Learning Multiple Layers of Features from Tiny Images. Technical report, University of Toronto 2009.
    """

    ink_on_paper: ClassVar[bool] = False
    dataset: ClassVar[type[VisionDataset]] = CIFAR10
