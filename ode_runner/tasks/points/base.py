"""The base of tasks that classify points on a line, in the plane or in space, with their pictures."""

from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor

from ode_runner.batch import Split
from ode_runner.plots.animation import Animation, Picture
from ode_runner.plots.difficulty import draw_difficulty_in_the_plane
from ode_runner.plots.figure_types import Figure
from ode_runner.plots.line import draw_paths_over_depth
from ode_runner.plots.plane import animate_flow, draw_decision_regions, draw_flow
from ode_runner.plots.space import draw_states_in_space
from ode_runner.tasks.base import ModelView, PerSampleCost
from ode_runner.tasks.classification import Classification

FRAMES, LINES, NODES = 31, 15, 250  # of the animation: frames, grid lines in each direction, points of a line
SHOWN = 200  # test points whose paths are drawn


class Points(Classification):
    """Two classes of points (samples, dimensions)."""

    gives_points: ClassVar[bool] = True

    def figures_of_per_sample_cost(self, found: PerSampleCost) -> Iterator[tuple[str, Figure]]:
        yield from super().figures_of_per_sample_cost(found)
        points, title = self.splits[Split.TEST].inputs, "Evaluations of each test point"
        if points.shape[1] == 2:
            names = ("x_1", "x_2")
            yield (
                "difficulty_plane",
                draw_difficulty_in_the_plane(points, found.evaluations, title=title, names=names),
            )

    def figures(self, view: ModelView) -> Iterator[tuple[str, Picture]]:
        yield from super().figures(view)  # first, since they do not need the model
        test = self.splits[Split.TEST]
        dimensions = test.inputs.shape[1]
        if dimensions == 2:
            yield (
                "decision_regions",
                draw_decision_regions(test.inputs, test.targets, lambda points: view.predict(points, None)),
            )
        points, classes, tested = test.inputs[:SHOWN], test.targets[:SHOWN], len(test.targets)
        states = view.path(view.encode(points), FRAMES)
        if dimensions == 3:
            yield "space", draw_states_in_space(states, classes, tested=tested)
        if dimensions == 1:
            yield "paths", draw_paths_over_depth(states, classes, names=("class 0", "class 1"))
        if states.shape[2] > 1:
            yield "flow", draw_flow(states, classes, tested=tested)
            if view.animate and dimensions == 2:
                yield "flow_in_motion", self._in_motion(view, points, classes)
            if view.animate and dimensions > 2:  # a grid in a plane would not represent the other points
                yield "flow_in_motion", animate_flow(states, classes, lines=None, tested=tested)

    def _in_motion(self, view: ModelView, points: Tensor, classes: Tensor) -> Animation:
        """An animation of the points and of a grid that covers them at first."""
        low, high = points.amin(0) - 0.2, points.amax(0) + 0.2
        across, along = (
            [torch.linspace(float(low[i]), float(high[i]), count) for i in (0, 1)] for count in (LINES, NODES)
        )
        level = torch.cartesian_prod(across[1], along[0]).flip(1)
        mesh = torch.cat([level, torch.cartesian_prod(across[0], along[1])]).to(points)
        states = view.path(view.encode(torch.cat([points, mesh])), FRAMES)
        moving, carried = states.split([len(points), len(mesh)], dim=1)
        return animate_flow(
            moving, classes, lines=carried.unflatten(1, (2 * LINES, NODES)), tested=self.size(Split.TEST)
        )
