"""The other side of the comparison: what one writes on torchdiffeq's public API after reading the Neural ODE paper.

Same function of the same weights as `task=mnist network=conv`, without any of this project's code: time is a channel
concatenated to the state, images are cropped one by one by torchvision's transforms in a DataLoader, and the loop is
zero_grad, loss, backward, step.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchdiffeq import odeint
from torchvision import transforms
from torchvision.datasets import MNIST

WIDTH, CLASSES = 64, 10


class PlainField(nn.Module):
    """Norm, ReLU, convolution over [t, y], twice, then norm; counts its evaluations."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.GroupNorm(32, WIDTH) for _ in range(3))
        self.conv1, self.conv2 = (nn.Conv2d(WIDTH + 1, WIDTH, 3, padding=1) for _ in range(2))
        self.relu = nn.ReLU(inplace=True)
        self.evaluations = 0

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        self.evaluations += 1
        y = self.conv1(with_time(t, self.relu(self.norm1(y))))
        y = self.conv2(with_time(t, self.relu(self.norm2(y))))
        return self.norm3(y)


class PlainODENet(nn.Module):
    """Stem, ODE over [0, 1] with backpropagation through the solver, head.

    Timed as it is made; `method` and `options` are for the check that both sides agree.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.field, self.head = plain_stem(), PlainField(), plain_head()
        self.method = "dopri5"
        self.options: dict[str, Any] | None = None

    def forward(self, images: Tensor) -> Tensor:
        y0 = self.stem(images)
        ts = torch.tensor([0.0, 1.0]).to(y0)
        ys = odeint(self.field, y0, ts, rtol=1e-3, atol=1e-3, method=self.method, options=self.options)
        return self.head(ys[1])


class PlainBlock(nn.Module):
    """Pre-activation residual block of two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = (nn.GroupNorm(32, WIDTH) for _ in range(2))
        self.conv1, self.conv2 = (nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False) for _ in range(2))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, y: Tensor) -> Tensor:
        out = self.conv1(self.relu(self.norm1(y)))
        return y + self.conv2(self.relu(self.norm2(out)))


class PlainResNet(nn.Module):
    """Stem, six residual blocks, head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = plain_stem(), plain_head()
        self.blocks = nn.Sequential(*(PlainBlock() for _ in range(6)))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(images)))


class PlainLoop:
    """SGD with momentum on one of the models above."""

    def __init__(self, model: nn.Module, loader: "DataLoader[tuple[Tensor, Tensor]]", device: torch.device) -> None:
        self.model, self.loader, self.device = model.to(device), loader, device
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Epoch after epoch, on the training device."""
        while True:
            for images, targets in self.loader:
                yield images.to(self.device), targets.to(self.device)

    def step(self, images: Tensor, targets: Tensor) -> None:
        self.optimizer.zero_grad()
        F.cross_entropy(self.model(images), targets).backward()
        self.optimizer.step()

    @torch.no_grad()
    def accuracy(self, images: Tensor, targets: Tensor) -> float:
        parts = zip(images.split(1000), targets.split(1000), strict=True)
        right = sum(int((self.model(some).argmax(dim=1) == wanted).sum()) for some, wanted in parts)
        return right / len(targets)


def plain_loader(dataset: MNIST, batch_size: int) -> "DataLoader[tuple[Tensor, Tensor]]":
    """Shuffled batches, each image cropped by itself, in the training process."""
    dataset.transform = transforms.Compose([transforms.RandomCrop(28, padding=4), transforms.ToTensor()])
    return DataLoader(dataset, batch_size=batch_size, shuffle=True, num_workers=0)


def with_time(t: Tensor, y: Tensor) -> Tensor:
    """`y` with one more channel, in front, that holds `t` everywhere."""
    return torch.cat([torch.ones_like(y[:, :1]) * t, y], dim=1)


def plain_stem() -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(1, WIDTH, 3)]
    for _ in range(2):
        layers += [nn.GroupNorm(32, WIDTH), nn.ReLU(inplace=True), nn.Conv2d(WIDTH, WIDTH, 4, 2, 1)]
    return nn.Sequential(*layers)


def plain_head() -> nn.Sequential:
    pool = nn.AdaptiveAvgPool2d((1, 1))
    return nn.Sequential(nn.GroupNorm(32, WIDTH), nn.ReLU(inplace=True), pool, nn.Flatten(), nn.Linear(WIDTH, CLASSES))
