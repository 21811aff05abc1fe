"""Two interleaved half circles in the plane."""

from collections.abc import Iterator
from typing import final

import torch
from matplotlib.figure import Figure
from sklearn.datasets import make_moons
from torch import Tensor

from ode_runner.batch import Split, TaskSpec
from ode_runner.errors import RefusedInput
from ode_runner.plots.animation import Animation, Picture
from ode_runner.plots.difficulty import draw_difficulty_in_the_plane
from ode_runner.plots.plane import animate_flow, draw_decision_regions, draw_flow
from ode_runner.tasks.base import ModelView, PerSampleCost
from ode_runner.tasks.classification import Classification, Samples, shuffled_splits

FRAMES, LINES, NODES = 31, 15, 250  # of the moving picture: states along the way, lines of a mesh each way, of so many


@final
class HalfMoons(Classification):
    """scikit-learn's `make_moons`: `noise` is the standard deviation added to points on circles of radius 1."""

    def __init__(
        self, *, train: int, validation: int, test: int, noise: float, seed: int, device: torch.device
    ) -> None:
        for name, value in (("train", train), ("validation", validation), ("test", test)):
            if value < 2:
                raise RefusedInput(f"task.{name} must be at least 2 samples, not {value}.")
        if noise < 0:
            raise RefusedInput(f"task.noise must be 0 or more, not {noise}.")
        sizes = {Split.TRAIN: train, Split.VALIDATION: validation, Split.TEST: test}
        points, classes = make_moons(sum(sizes.values()), noise=noise, random_state=seed)
        samples = Samples(torch.tensor(points, dtype=torch.float32), torch.tensor(classes))
        super().__init__(shuffled_splits(samples, sizes, seed), seed=seed, device=device)
        self.spec = TaskSpec(input_shape=(2,), output_shape=(2,))

    def figures_of_per_sample_cost(self, found: PerSampleCost) -> Iterator[tuple[str, Figure]]:
        yield from super().figures_of_per_sample_cost(found)
        points, title = self.splits[Split.TEST].inputs, "Evaluations of each test point"
        yield (
            "difficulty_plane",
            draw_difficulty_in_the_plane(points, found.evaluations, title=title, names=("x_1", "x_2")),
        )

    def figures(self, view: ModelView) -> Iterator[tuple[str, Picture]]:
        yield from super().figures(view)  # first, for they ask nothing of the model
        test = self.splits[Split.TEST]
        yield (
            "decision_regions",
            draw_decision_regions(test.inputs, test.targets, lambda points: view.predict(points, None)),
        )
        states = view.path(view.encode(test.inputs[:200]), 25)
        if states.shape[2] > 1:  # network.width=1 leaves a line, on which there is nothing to see
            yield "flow", draw_flow(states, test.targets[:200])
            if view.animate:
                yield "flow_in_motion", self._in_motion(view, test.inputs[:200], test.targets[:200])

    def _in_motion(self, view: ModelView, points: Tensor, classes: Tensor) -> Animation:
        """The points on their way, and the lines of a mesh that covers them at first."""
        low, high = points.amin(0) - 0.2, points.amax(0) + 0.2
        across, along = (
            [torch.linspace(float(low[i]), float(high[i]), count) for i in (0, 1)] for count in (LINES, NODES)
        )
        level = torch.cartesian_prod(across[1], along[0]).flip(1)
        mesh = torch.cat([level, torch.cartesian_prod(across[0], along[1])]).to(points)
        states = view.path(view.encode(torch.cat([points, mesh])), FRAMES)
        moving, carried = states.split([len(points), len(mesh)], dim=1)
        return animate_flow(moving, classes, lines=carried.unflatten(1, (2 * LINES, NODES)))
