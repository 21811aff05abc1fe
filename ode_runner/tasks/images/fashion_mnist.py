"""Fashion-MNIST."""

from pathlib import Path
from typing import ClassVar, final

from torchvision.datasets import FashionMNIST as Dataset
from torchvision.datasets import VisionDataset
from torchvision.datasets.utils import check_integrity

from ode_runner.tasks.images.idx import FILES, hash_idx
from ode_runner.tasks.images.torchvision_images import TorchvisionImages


@final
class FashionMnist(TorchvisionImages):
    """Ten kinds of clothes, 28x28 pixels in grey: a replacement for MNIST.

    Xiao, Rasul, Vollgraf. Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms. 2017,
    arXiv:1708.07747.
    """

    dataset: ClassVar[type[VisionDataset]] = Dataset

    @classmethod
    def content(cls, place: Path) -> str | None:
        """None for the files that torchvision has downloaded; it keeps their compressed originals beside them."""
        raw = place / "FashionMNIST" / "raw"
        if all(check_integrity(str(raw / name), md5) for name, md5 in Dataset.resources):
            return None
        return hash_idx([raw / name for names in FILES.values() for name in names])
