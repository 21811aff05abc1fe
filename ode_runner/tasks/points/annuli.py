"""The task of classifying points of a ball and a shell around it, or of two concentric spheres."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from ode_runner.batch import Split, TaskSpec
from ode_runner.errors import RefusedInput, as_typed
from ode_runner.tasks.classification import Samples
from ode_runner.tasks.points.base import Points
from ode_runner.tasks.sizes import check_counts, check_deviations

Radii = tuple[float, float]  # smallest and largest radius of a class


@final
class Annuli(Points):
    """Points in `dim` dimensions, class 1 around class 0: no flow in `dim` dimensions makes them linearly separable.

    If `filled`, a class is uniform in the volume between its two radii, and a third of the points is in class 0.
    Otherwise a class is uniform on a sphere, and half of the points are in class 0. `noise` is the standard deviation
    of noise added to each coordinate. On a line (`task.dim=1`) a flow keeps the order of points, so that the accuracy
    of a plain ODE-Net is at most 2/3 (on spheres 3/4).

    Dupont, Doucet, Teh. Augmented Neural ODEs. NeurIPS 2019.
    """

    test_only: ClassVar[frozenset[str]] = frozenset({"test"})  # it is drawn last by the generator

    def __init__(
        self,
        *,
        train: int,
        validation: int,
        test: int,
        dim: int,
        filled: bool,
        radii: Sequence[Any],
        noise: float,
        seed: int,
        device: torch.device,
    ) -> None:
        check_counts(3, train=train, validation=validation, test=test)
        if not 1 <= dim <= 1000:
            raise RefusedInput(f"task.dim must be from 1 to 1000, not {dim}.")
        check_deviations(noise=noise)
        inner, outer = _two_classes(radii, filled=filled)
        generator = torch.Generator().manual_seed(seed)
        splits = {}
        for split, size in ((Split.TRAIN, train), (Split.VALIDATION, validation), (Split.TEST, test)):
            within = size // (3 if filled else 2)
            points = [_between(inner, within, dim, generator), _between(outer, size - within, dim, generator)]
            classes = torch.tensor([0] * within + [1] * (size - within))
            order = torch.randperm(size, generator=generator)
            noisy = torch.cat(points) + noise * torch.randn(size, dim, generator=generator)
            splits[split] = Samples(noisy[order], classes[order])
        super().__init__(splits, seed=seed, device=device)
        self.spec = TaskSpec(input_shape=(dim,), output_shape=(2,))


def _two_classes(radii: Sequence[Any], *, filled: bool) -> tuple[Radii, Radii]:
    """The smallest and largest radius of class 0, and of class 1.

    Raises:
        RefusedInput: they are not valid radii, or class 1 is not around class 0.
    """
    form = "[[low,high],[low,high]], such as [[0,0.5],[1,1.5]]" if filled else "two numbers, such as [1,2]"
    try:
        found = [(float(low), float(high)) for low, high in (radii if filled else [(r, r) for r in radii])]
        [inner, outer] = found
    except (TypeError, ValueError):
        raise RefusedInput(
            f"task.radii={as_typed(radii)} with task.filled={as_typed(filled)} must be {form}."
        ) from None
    if not (0 <= inner[0] <= inner[1] < outer[0] <= outer[1] < math.inf and inner[1] > 0):
        raise RefusedInput(f"task.radii={as_typed(radii)} must be {form}, each radius no less than the one before it.")
    return inner, outer


def _between(radii: Radii, count: int, dim: int, generator: torch.Generator) -> Tensor:
    """Points (count, dim), uniform in the volume between two radii, or on a sphere if these are equal."""
    directions = torch.randn(count, dim, generator=generator)
    directions = directions / directions.norm(dim=1, keepdim=True)
    low, high = radii
    hollow = (low / high) ** dim  # relative to the volume within `high`, which may overflow
    volumes = hollow + (1 - hollow) * torch.rand(count, 1, generator=generator)
    return high * directions * volumes ** (1 / dim)
