"""A solver with and without a correction: error against evaluations."""

from collections.abc import Mapping, Sequence

from ode_runner.plots import style
from ode_runner.plots.figure_types import Figure

Point = tuple[float, float]  # evaluations and error


def draw_hypersolver(curves: Mapping[str, Sequence[Point]], *, fitted_to: Point, title: str) -> Figure:
    """A curve for each solver over its numbers of steps; the steps that the correction was fitted to are ringed."""
    figure = style.figure(6.4, 4.4)
    axes = figure.subplots()
    looks = zip(curves.items(), (style.BLUE, style.VERMILION, style.GREY), "os^", strict=False)
    for (label, points), colour, marker in looks:
        axes.plot(*zip(*points, strict=True), marker=marker, color=colour, label=label)
    axes.plot(
        *fitted_to,
        "o",
        markersize=14,
        markerfacecolor="none",
        color="black",
        label="fitted to these steps, half and twice as many",
    )
    axes.set(xscale="log", yscale="log", title=title, xlabel="evaluations of the field (NFE)", ylabel="error of states")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=8)
    return figure
