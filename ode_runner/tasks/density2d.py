"""Densities in the plane, from points drawn of a known law."""

from collections.abc import Iterator, Mapping
from typing import Literal, final

import torch
from torch import Tensor

from ode_runner.batch import Split, TaskSpec
from ode_runner.errors import RefusedInput
from ode_runner.plots.animation import Picture
from ode_runner.plots.curves import draw_curves
from ode_runner.plots.density import draw_density, draw_samples
from ode_runner.tasks.base import ModelView
from ode_runner.tasks.density import TOLERATED, DensityTask, in_parts
from ode_runner.tasks.plane_laws import GAUSSIANS, OTHERS, PlaneLaw, gaussians

Name = Literal[
    "8gaussians",
    "8gaussians_narrow",
    "moons",
    "circles",
    "pinwheel",
    "checkerboard",
    "2spirals",
    "swissroll",
    "rings",
]
REACH, MARGIN = 5.0, 0.25  # a picture holds [-REACH, REACH] each way, and the data with so much of their extent around
CELLS, SAMPLES, TIMES = 100, 2000, 5  # of the pictures


@final
class Density2D(DensityTask):
    """Points of a law in the plane, chosen by `name` from those of `plane_laws`.

    `mass` is the integral of the learned density over the pictures' square, by the run's own solver, from `grid` times
    `grid` cells: 1 for a flow that is solved well enough.

    Args:
        radius: of the circle of eight normal laws, whose name begins with 8gaussians; None: that of the name.
        std: of each of them.
    """

    def __init__(
        self,
        *,
        name: Name,
        radius: float | None,
        std: float | None,
        train: int,
        validation: int,
        test: int,
        grid: int,
        seed: int,
        device: torch.device,
    ) -> None:
        sizes = {Split.TRAIN: train, Split.VALIDATION: validation, Split.TEST: test}
        for option, count in [*sizes.items(), ("grid", grid)]:
            if count < 2:
                raise RefusedInput(f"task.{option} must be at least 2, not {count}.")
        law = law_of(name, radius, std)
        drawn = law.draw(sum(sizes.values()), torch.Generator().manual_seed(seed)).float().split(list(sizes.values()))
        super().__init__(dict(zip(sizes, drawn, strict=True)), entropy=law.entropy, seed=seed, device=device)
        self.name, self.grid = name, grid
        self.spec = TaskSpec(input_shape=(2,), output_shape=(2,))

    def model_metrics(self, view: ModelView) -> dict[str, float]:
        cells, area = self._cells(self.grid)
        density = in_parts(lambda points: view.predict(points, None), cells).double().exp()
        return super().model_metrics(view) | {"mass": float(density.sum()) * area}

    def remarks(self, metrics: Mapping[str, float]) -> Iterator[str]:
        yield from super().remarks(metrics)
        if not abs(metrics["test/mass"] - 1) <= TOLERATED:
            yield (
                f"the density has mass {metrics['test/mass']:.4f} by the run's own solver, and 1 is right: its NLL is "
                "none. Use a smaller tolerance, or more steps."
            )

    def figures(self, view: ModelView) -> Iterator[tuple[str, Picture]]:
        yield "curves", draw_curves(view.history, quality="nll")
        test = self.points[Split.TEST][:SAMPLES]
        cells, _ = self._cells(CELLS)
        density = in_parts(lambda points: view.predict(points, None), cells).exp().view(CELLS, CELLS)
        path = view.sample(SAMPLES, TIMES) if view.sample is not None else None
        side = self._side()
        yield "density", draw_density(test, density, samples=None if path is None else path[-1], side=side)
        if path is not None:
            yield "samples", draw_samples(path, side=side)

    def _side(self) -> tuple[float, float]:
        """From where to where the pictures go, in both directions."""
        points = torch.cat(list(self.points.values()))
        low, high = float(points.min()), float(points.max())
        margin = MARGIN * (high - low)
        return min(-REACH, low - margin), max(REACH, high + margin)

    def _cells(self, count: int) -> tuple[Tensor, float]:
        """Middles of the pictures' cells, (count^2, 2), first coordinate first, and the area of each."""
        low, high = self._side()
        size = (high - low) / count
        middles = low + size * (torch.arange(count, device=self.ts.device) + 0.5)
        return torch.cartesian_prod(middles, middles), size**2


def law_of(name: Name, radius: float | None, std: float | None) -> PlaneLaw:
    """The law of a name.

    Raises:
        RefusedInput: a radius or a standard deviation that is not positive, or of another law than eight normal ones.
    """
    for option, value in (("radius", radius), ("std", std)):
        if value is not None and name not in GAUSSIANS:
            raise RefusedInput(
                f"task.{option} is of task.name={' or '.join(GAUSSIANS)}, and not of {name}. Leave it out."
            )
        if value is not None and value <= 0:
            raise RefusedInput(f"task.{option} must be above 0, not {value}.")
    if name in OTHERS:
        return OTHERS[name]
    own_radius, own_std = GAUSSIANS[name]
    return gaussians(own_radius if radius is None else radius, own_std if std is None else std)
