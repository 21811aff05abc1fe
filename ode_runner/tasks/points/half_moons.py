"""The task of classifying two interleaved half circles in the plane."""

from typing import final

import numpy as np
import torch

from ode_runner.batch import TaskSpec
from ode_runner.tasks.classification import Samples, shuffled_splits
from ode_runner.tasks.points.base import Points
from ode_runner.tasks.sizes import check_deviations, split_sizes


@final
class HalfMoons(Points):
    """scikit-learn's `make_moons`; `noise` is the standard deviation of noise on points on circles of radius 1."""

    def __init__(
        self, *, train: int, validation: int, test: int, noise: float, seed: int, device: torch.device
    ) -> None:
        sizes = split_sizes(train=train, validation=validation, test=test)
        check_deviations(noise=noise)
        points, classes = make_moons(sum(sizes.values()), noise=noise, seed=seed)
        samples = Samples(torch.tensor(points, dtype=torch.float32), torch.tensor(classes))
        super().__init__(shuffled_splits(samples, sizes, seed), seed=seed, device=device)
        self.spec = TaskSpec(input_shape=(2,), output_shape=(2,))


def make_moons(count: int, *, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The points (count, 2) and classes (count,) of scikit-learn, whose import would take a second."""
    random = np.random.RandomState(seed)
    outer, inner = np.linspace(0, np.pi, count // 2), np.linspace(0, np.pi, count - count // 2)
    x, y = np.concatenate([np.cos(outer), 1 - np.cos(inner)]), np.concatenate([np.sin(outer), 1 - np.sin(inner) - 0.5])
    classes, order = np.repeat([0, 1], [len(outer), len(inner)]), np.arange(count)
    random.shuffle(order)
    return np.stack([x, y], axis=1)[order] + random.normal(scale=noise, size=(count, 2)), classes[order]
