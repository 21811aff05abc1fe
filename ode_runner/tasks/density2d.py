"""Densities in the plane, from points drawn of a known law."""

from collections.abc import Iterator, Mapping
from typing import Literal, final

import torch
from torch import Tensor
from torch.nn.functional import one_hot

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

    Where it is `conditional`, the model is told the component that each point is of, in ones and zeros behind it; the
    density of mass and pictures is the mean over components. `right_centre` is then the share of samples that are
    nearest to the centre of their own component, where components have centres.

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
        conditional: bool,
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
        if conditional and law.components == 1:
            raise RefusedInput(f"task.conditional=true needs a law of several components; task.name={name} has one.")
        points, component = law.draw(sum(sizes.values()), torch.Generator().manual_seed(seed))
        if conditional:
            points = torch.cat([points, one_hot(component, law.components)], dim=1)
        drawn = points.float().split(list(sizes.values()))
        entropy = law.entropy_within if conditional else law.entropy
        super().__init__(dict(zip(sizes, drawn, strict=True)), entropy=entropy, seed=seed, device=device)
        self.grid, self.centres = grid, law.centres
        self.conditions = torch.eye(law.components if conditional else 0, device=device)
        condition = len(self.conditions)
        self.spec = TaskSpec(input_shape=(2 + condition,), output_shape=(2 + condition,), condition=condition)

    def model_metrics(self, view: ModelView) -> dict[str, float]:
        cells, area = self._cells(self.grid)
        found = {"mass": float(self._density(view, cells).double().sum()) * area}
        return super().model_metrics(view) | found | self._right_centre(view)

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
        density = self._density(view, cells).view(CELLS, CELLS)
        path = view.sample(len(test), TIMES, self._given(test)) if view.sample is not None else None
        side = self._side()
        yield "density", draw_density(test[:, :2], density, samples=None if path is None else path[-1], side=side)
        if path is not None:
            yield "samples", draw_samples(path, side=side)

    def _density(self, view: ModelView, points: Tensor) -> Tensor:
        """The learned density at points of the plane, by the run's own solver: the mean over conditions."""
        told = [torch.cat([points, one.expand(len(points), -1)], dim=1) for one in self.conditions] or [points]
        parts = [in_parts(lambda inputs: view.predict(inputs, None), inputs) for inputs in told]
        return torch.stack(parts).exp().mean(dim=0)

    def _right_centre(self, view: ModelView) -> dict[str, float]:
        if not len(self.conditions) or self.centres is None or view.sample is None:
            return {}
        [condition] = self._given(self.points[Split.TEST])
        samples = view.sample(len(condition), 2, [condition])[-1].cpu().double()
        nearest = torch.cdist(samples, self.centres).argmin(dim=1)
        return {"right_centre": float((nearest == condition.argmax(dim=1).cpu()).double().mean())}

    def _given(self, inputs: Tensor) -> list[Tensor]:
        """The conditions of inputs, as a sampler takes them."""
        return [inputs[:, 2:]] if len(self.conditions) else []

    def _side(self) -> tuple[float, float]:
        """From where to where the pictures go, in both directions."""
        points = torch.cat(list(self.points.values()))[:, :2]
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
