"""Sample paths of stochastic equations, with the bands that hold most of them."""

from collections.abc import Sequence

from torch import Tensor

from ode_runner.plots import style
from ode_runner.plots.figure_types import Axes, Figure
from ode_runner.types import Times, Trajectory

EDGES = (0.05, 0.95)  # quantiles of a band
SHOWN = 3  # single paths drawn from each set


def draw_paths(ts: Times, true: Trajectory, values: Trajectory, *, names: Sequence[str], title: str) -> Figure:
    """Bands and a few single paths of both sets, coordinate by coordinate; a single true path is drawn as points."""
    figure = style.figure(8.5, 2.4 * len(names) + 0.6)
    grid = figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
    times = ts.cpu()
    for row, (axes, name) in enumerate(zip(grid, names, strict=True)):
        for paths, color, label in ((true, style.BLUE, "true"), (values, style.VERMILION, "model")):
            shown = paths[..., row].double().cpu()
            if shown.shape[1] == 1:
                axes.plot(times, shown[:, 0], "o", markersize=3, color=color, label="observed")
                continue
            _draw_band(axes, times, shown, color=color, label=label)
        axes.set_ylabel(f"${name}$")
        axes.grid(alpha=0.3)
    grid[0].set_title(title, fontsize=10)
    grid[-1].set_xlabel("t")
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower right", fontsize=8, ncols=3)
    return figure


def _draw_band(axes: Axes, times: Times, paths: Tensor, *, color: str, label: str) -> None:
    """The band that holds most of the paths (time, path), their mean and a few single paths."""
    low, high = (paths.quantile(edge, dim=1) for edge in EDGES)
    line = "-" if label == "true" else "--"
    if label == "true":
        axes.fill_between(times, low, high, color=color, alpha=0.2, linewidth=0, label="true, middle 90 % of paths")
    else:
        axes.plot(times, low, ":", color=color, linewidth=1.5, label="model, middle 90 % of paths")
        axes.plot(times, high, ":", color=color, linewidth=1.5)
    axes.plot(times, paths.mean(dim=1), line, color=color, linewidth=1.8, label=f"{label}, mean")
    some = f" ({SHOWN} of {paths.shape[1]})" if paths.shape[1] > SHOWN else ""
    few = axes.plot(times, paths[:, :SHOWN], line, color=color, linewidth=0.8, alpha=0.8)
    few[0].set_label(f"{label}, single paths{some}")
