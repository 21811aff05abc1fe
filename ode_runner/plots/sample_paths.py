"""Paths of samples from noise to data, and their deviation from straight lines."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ode_runner.plots import style
from ode_runner.plots.figure_types import Axes, Figure
from ode_runner.types import Trajectory

LINES = 80  # in a panel; one with more would be unreadable


def draw_sample_paths(paths: Mapping[str, Trajectory]) -> Figure:
    """The deviation of paths from straight lines over time; and the paths themselves, if they are in the plane.

    Args:
        paths: (time, sample, *shape) at equal intervals of time, by the name of the sampler.
    """
    plane = {name: path for name, path in paths.items() if path.shape[2:] == (2,)}
    figure = style.figure(4.4 * (1 + len(plane)), 4.4)
    deviations, *panels = figure.subplots(1, 1 + len(plane), squeeze=False)[0]
    for (name, path), colour in zip(paths.items(), style.CLASSES, strict=False):
        apart = deviation_from_straight(path).mean(dim=1).cpu()
        middles = (torch.arange(len(apart)) + 0.5) / len(apart)
        deviations.plot(middles, apart, color=colour, label=f"{name}: mean {float(apart.mean()):.3g}")
    deviations.set(title="Deviation from a straight path", xlabel="fraction of the time, from noise", yscale="log")
    deviations.set_ylabel("$|dx/ds - (x(1) - x(0))|^2$")
    deviations.legend(fontsize=8)
    deviations.grid(alpha=0.3)
    for (name, path), axes in zip(plane.items(), panels, strict=True):
        some = style.part_of(min(LINES, path.shape[1]), path.shape[1], "samples")
        _draw_plane(axes, path[:, :LINES].cpu(), title=style.titled(name, some))
    return figure


def deviation_from_straight(path: Trajectory) -> Tensor:
    """|dx/ds - (x(1) - x(0))|^2 of each sample in each interval, where s goes from 0 to 1: (time - 1, sample).

    Liu, Gong, Liu. Rectified Flow. ICLR 2023, section 2.2, before the mean over both.
    """
    velocities, chord = path.diff(dim=0) * (len(path) - 1), path[-1] - path[0]
    return (velocities - chord).flatten(2).square().sum(dim=2)


def _draw_plane(axes: Axes, path: Tensor, *, title: str) -> None:
    for line in path.unbind(dim=1):
        axes.plot(*line.T, color=style.GREY, linewidth=0.6, alpha=0.6)
    for points, colour, name in ((path[0], style.SKY, "noise"), (path[-1], style.VERMILION, "samples")):
        x, y = points.T
        axes.scatter(x, y, s=5, color=colour, label=name, zorder=3)
    axes.set(title=title[:1].upper() + title[1:], xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
    axes.legend(fontsize=8, loc="upper right")
