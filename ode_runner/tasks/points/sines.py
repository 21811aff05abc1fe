"""The task of classifying two sine curves in the plane, one above the other."""

import math
from typing import ClassVar, final

import torch

from ode_runner.batch import TaskSpec
from ode_runner.errors import RefusedInput
from ode_runner.tasks.classification import Samples
from ode_runner.tasks.points.base import Points
from ode_runner.tasks.sizes import check_deviations, split_sizes


@final
class Sines(Points):
    """y = sin(pi x) + shift for class 1 and sin(pi x) - shift for class 0, x uniform in [-1, 1]; half are in each.

    `noise` is the standard deviation of noise added to y. A plain flow can separate them by pushing them apart.

    Dupont, Doucet, Teh. Augmented Neural ODEs. NeurIPS 2019; the shifted sines of its code.
    """

    test_only: ClassVar[frozenset[str]] = frozenset({"test"})  # it is drawn last by the generator

    def __init__(
        self, *, train: int, validation: int, test: int, shift: float, noise: float, seed: int, device: torch.device
    ) -> None:
        sizes = split_sizes(train=train, validation=validation, test=test)
        check_deviations(noise=noise)
        if shift <= 0:
            raise RefusedInput(f"task.shift must be above 0, not {shift}: the two curves are as far apart as twice it.")
        generator = torch.Generator().manual_seed(seed)
        splits = {split: _curves(size, shift, noise, generator) for split, size in sizes.items()}
        super().__init__(splits, seed=seed, device=device)
        self.spec = TaskSpec(input_shape=(2,), output_shape=(2,))


def _curves(count: int, shift: float, noise: float, generator: torch.Generator) -> Samples:
    classes = (torch.arange(count) % 2)[torch.randperm(count, generator=generator)]
    x = 2 * torch.rand(count, generator=generator) - 1
    y = torch.sin(math.pi * x) + shift * (2 * classes - 1) + noise * torch.randn(count, generator=generator)
    return Samples(torch.stack([x, y], dim=1), classes)
