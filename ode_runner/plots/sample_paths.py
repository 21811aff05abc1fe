"""Ways from noise to samples, and how straight they are."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ode_runner.figures import Axes, Figure
from ode_runner.plots import style
from ode_runner.types import Trajectory

LINES = 80  # of a panel; of more nothing could be followed


def draw_ways(ways: Mapping[str, Trajectory]) -> Figure:
    """How far ways are from straight lines on their course, and the ways themselves where they are in the plane.

    Args:
        ways: (time, sample, *shape) at equal intervals of time, by the name of what makes them.
    """
    plane = {name: way for name, way in ways.items() if way.shape[2:] == (2,)}
    figure = style.figure(4.4 * (1 + len(plane)), 4.4)
    course, *panels = figure.subplots(1, 1 + len(plane), squeeze=False)[0]
    for (name, way), colour in zip(ways.items(), style.CLASSES, strict=False):
        apart = off_straight(way).mean(dim=1).cpu()
        middles = (torch.arange(len(apart)) + 0.5) / len(apart)
        course.plot(middles, apart, color=colour, label=f"{name}: mean {float(apart.mean()):.3g}")
    course.set(title="How far from straight", xlabel="part of the way, from noise", yscale="log")
    course.set_ylabel("$|dx/ds - (x(1) - x(0))|^2$")
    course.legend(fontsize=8)
    course.grid(alpha=0.3)
    for (name, way), axes in zip(plane.items(), panels, strict=True):
        _draw_plane(axes, way[:, :LINES].cpu(), title=name)
    return figure


def off_straight(way: Trajectory) -> Tensor:
    """|dx/ds - (x(1) - x(0))|^2 of each sample in each interval, where s goes from 0 to 1: (time - 1, sample).

    Liu, Gong, Liu. Rectified Flow. ICLR 2023, section 2.2, before the mean over both.
    """
    velocities, chord = way.diff(dim=0) * (len(way) - 1), way[-1] - way[0]
    return (velocities - chord).flatten(2).square().sum(dim=2)


def _draw_plane(axes: Axes, way: Tensor, *, title: str) -> None:
    for line in way.unbind(dim=1):
        axes.plot(*line.T, color=style.GREY, linewidth=0.6, alpha=0.6)
    for points, colour, name in ((way[0], style.SKY, "noise"), (way[-1], style.VERMILION, "samples")):
        x, y = points.T
        axes.scatter(x, y, s=5, color=colour, label=name, zorder=3)
    axes.set(title=title[:1].upper() + title[1:], xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
    axes.legend(fontsize=8, loc="upper right")
