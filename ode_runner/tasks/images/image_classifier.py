"""An image classifier; its features are used to compare samples with data."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from filelock import FileLock
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam
from torch.optim.lr_scheduler import OneCycleLR

from ode_runner.errors import CheckpointRefused, RefusedInput
from ode_runner.recording.atomic_write import atomic_write
from ode_runner.recording.checkpoint import load_tensors
from ode_runner.tasks.classification import Samples

FOLDER = "classifiers"  # in the folder of all outputs
FEATURES, CHANNELS = 32, (16, 32)
STEPS, BATCH, RATE = 600, 128, 3e-3
AT_ONCE = 1000


@dataclass(frozen=True, kw_only=True)
class ImageClassifier:
    """A trained classifier, always on the CPU."""

    network: "FeatureNetwork"
    accuracy: float  # on the test images
    hash: str  # of its weights: distances by different classifiers are not comparable
    brightest: int  # largest pixel value of images

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """The inputs of the last layer, (images, FEATURES), for integer images (images, channels, height, width)."""
        return torch.cat([self.network.features(scaled(part, self.brightest)) for part in images.split(AT_ONCE)])

    @torch.no_grad()
    def classes(self, features: Tensor) -> Tensor:
        """The predicted classes for features, (images,)."""
        return self.network.last(features).argmax(dim=1)


@final
class FeatureNetwork(nn.Module):
    """Two convolutions, each followed by pooling, and two linear layers; features are the values between these."""

    def __init__(self, shape: torch.Size, classes: int) -> None:
        super().__init__()
        channels, height, width = shape
        first, second = CHANNELS
        self.features = nn.Sequential(
            nn.Conv2d(channels, first, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True),
            nn.Conv2d(first, second, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True),
            nn.Flatten(), nn.Linear(second * -(-height // 4) * -(-width // 4), FEATURES), nn.ReLU(),
        )  # fmt: skip
        self.last = nn.Linear(FEATURES, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.features(images))


def scaled(images: Tensor, brightest: int) -> Tensor:
    """Scales integers from 0 to `brightest` to numbers from -1 to 1."""
    return images.float() * (2 / brightest) - 1


def classifier_of(
    train: Samples, test: Samples, *, classes: int, brightest: int, seed: int, name: str, outputs: Path
) -> ImageClassifier:
    """The classifier of a dataset and a seed: trained once and saved to a file, which all runs share.

    Args:
        train: images (images, channels, height, width) of integers, on the CPU.
        test: images for measuring its accuracy.
        classes: number of classes.
        brightest: largest pixel value of images.
        seed: of weights and batches.
        name: of the dataset, used in the file's name.
        outputs: folder of all outputs.

    Raises:
        RefusedInput: the file is damaged, or was not written by this program.
    """
    folder = outputs / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{_hash([train.inputs, train.targets, test.inputs, test.targets])}-s{seed}.pt"
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        network = FeatureNetwork(train.inputs.shape[1:], classes)
    with FileLock(path.with_suffix(".lock")):  # another run may be training it: both then use the same
        if not path.exists():
            accuracy = _train(network, train, test, brightest=brightest, seed=seed)
            content = {"weights": network.state_dict(), "accuracy": accuracy}
            atomic_write(path, lambda file: torch.save(content, file))
    try:
        stored: dict[str, Any] = load_tensors(path)
        network.load_state_dict(stored["weights"])
        accuracy = float(stored["accuracy"])
    except (CheckpointRefused, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise RefusedInput(
            f"{path} holds no classifier of this program. Remove it: it is then trained again."
        ) from error
    weights = _hash(stored["weights"].values())
    return ImageClassifier(network=network.eval(), accuracy=accuracy, hash=weights, brightest=brightest)


def _train(network: FeatureNetwork, train: Samples, test: Samples, *, brightest: int, seed: int) -> float:
    """Trains with Adam and a one-cycle learning rate; returns the accuracy on the test images."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = Adam(network.parameters(), lr=RATE)
    schedule = OneCycleLR(optimizer, max_lr=RATE, total_steps=STEPS)
    with torch.enable_grad():
        for _ in range(STEPS):
            chosen = torch.randint(len(train.targets), (BATCH,), generator=generator)
            optimizer.zero_grad()
            F.cross_entropy(network(scaled(train.inputs[chosen], brightest)), train.targets[chosen]).backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        parts = test.inputs.split(AT_ONCE)
        read = torch.cat([network(scaled(part, brightest)).argmax(dim=1) for part in parts])
    return float((read == test.targets).double().mean())


def _hash(tensors: Any) -> str:
    """A hash of tensors, 12 hexadecimal digits."""
    content = hashlib.sha256()
    for tensor in tensors:
        content.update(tensor.contiguous().numpy().tobytes())
    return content.hexdigest()[:12]
