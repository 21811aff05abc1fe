"""Densities in the plane beside data and samples."""

import torch
from torch import Tensor

from ode_runner.plots import style
from ode_runner.plots.animation import Animation
from ode_runner.plots.figure_types import Axes, Figure
from ode_runner.types import Trajectory

Side = tuple[float, float]  # lower and upper limit, the same for both axes


def draw_density(
    points: Tensor, density: Tensor | None, *, samples: Tensor | None, side: Side, tested: int, drawn: int,
    guidance: float = 1.0,
) -> Figure:  # fmt: skip
    """Test points, the learned density and samples from it; no panel for what is None.

    `density` is (cells, cells), first coordinate first. `tested` and `drawn`: the numbers of points and of samples of
    which those shown are the first. If samples have a `guidance`, the titles say that the density has none.
    """
    guided = guidance != 1
    count = 3 - (density is None) - (samples is None)
    figure = style.figure(4.2 * count, 4.6)
    panels = list(figure.subplots(1, count, squeeze=False)[0])
    _scatter(panels.pop(0), points, _counted(len(points), tested, "test points"), side)
    if density is not None:
        axes = panels.pop(0)
        shown = axes.imshow(density.T.cpu().numpy(), origin="lower", extent=(*side, *side), cmap="viridis", vmin=0)
        figure.colorbar(shown, ax=axes, shrink=0.8)
        _finish(axes, f"Density of the model{', without guidance' if guided else ''}", side)
    if samples is not None:
        title = _counted(len(samples), drawn, "samples") + (f", guidance {guidance:g}" if guided else "")
        _scatter(panels.pop(0), samples, title, side)
    return figure


def draw_samples(path: Trajectory, *, side: Side, drawn: int) -> Figure:
    """The first samples of `drawn` on their way from the base distribution to the data; a panel for each time."""
    figure = style.figure(2.9 * len(path), 3.6)
    panels = figure.subplots(1, len(path), sharex=True, sharey=True)
    for i, (axes, points) in enumerate(zip(panels, path, strict=True)):
        _scatter(axes, points, f"{i / (len(path) - 1):.0%} of the way", side)
        axes.label_outer()
    title, some = (
        "Samples on their way from the normal distribution to the data",
        style.part_of(path.shape[1], drawn, "samples"),
    )
    figure.suptitle(style.titled(title, some), fontsize=11)
    return figure


def animate_samples(path: Trajectory, *, side: Side) -> Animation:
    """Samples on their way from the base distribution to the data; a frame for each time of `path`."""
    figure = style.figure(4.6, 4.6)
    axes = figure.subplots()
    points = path.cpu().numpy()
    dots = axes.scatter([], [], s=_size(points.shape[1]), color=style.BLUE, alpha=0.5, linewidths=0)

    def show(i: int) -> None:
        dots.set_offsets(points[i])
        _finish(axes, f"From the normal distribution to the data: {i / (len(points) - 1):.0%}", side)

    return Animation(figure=figure, show=show, frames=len(points), per_second=12)


def _scatter(axes: Axes, points: Tensor, title: str, side: Side) -> None:
    within = points[torch.isfinite(points).all(dim=1)].cpu()
    x, y = within.T.numpy()
    axes.scatter(x, y, s=_size(len(within)), color=style.BLUE, alpha=0.5, linewidths=0)
    _finish(axes, title, side)


def _counted(shown: int, there: int, things: str) -> str:
    return style.part_of(shown, there, things) or f"{there:,} {things}"


def _size(points: int) -> float:
    """Area of a dot in square points: large enough to see a few, small enough that many do not overlap."""
    return min(12.0, max(2.0, 4000 / max(points, 1)))


def _finish(axes: Axes, title: str, side: Side) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set(xlim=side, ylim=side, aspect="equal", xlabel="$x_1$", ylabel="$x_2$")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_title(title, fontsize=10)
