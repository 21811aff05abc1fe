"""Data of several columns, and samples of a model that was trained on them."""

from collections.abc import Sequence

import numpy as np

from ode_runner.plots import style
from ode_runner.plots.figure_types import Axes, Figure

MOST = 5  # columns in a figure
SHOWN = 2000  # most dots of points, and of samples, in a panel
BINS = 30


def draw_scatter_matrix(points: np.ndarray, samples: np.ndarray, *, names: Sequence[str]) -> Figure:
    """A panel for each pair of columns: points below the diagonal, samples above, and histograms of both on it.

    Args:
        points: (points, columns), in their own units.
        samples: (samples, columns), in the same units.
        names: of the columns; the first few are shown.
    """
    shown = names[:MOST]
    samples = samples[np.isfinite(samples).all(axis=1)]
    figure = style.figure(2.3 * len(shown) + 1.2, 2.2 * len(shown) + 0.8)
    grid = figure.subplots(len(shown), len(shown), squeeze=False)
    limits = [_limits(points[:, i]) for i in range(len(shown))]
    for i, row in enumerate(grid):
        for j, axes in enumerate(row):
            if i == j:
                _histograms(axes, points[:, i], samples[:, i], limits[i])
            else:
                chosen, colour = (points, style.BLUE) if i > j else (samples, style.VERMILION)
                axes.scatter(chosen[:SHOWN, j], chosen[:SHOWN, i], s=3, color=colour, alpha=0.5, linewidths=0)
                axes.set(xlim=limits[j], ylim=limits[i])
            _name(axes, names, i, j, last=i == len(shown) - 1)
    dots = max(len(points), len(samples))
    parts = style.part_of(min(SHOWN, dots), dots, "as dots"), style.part_of(len(shown), len(names), "columns")
    figure.suptitle(style.titled("Test points (blue) and samples (red)", *parts), fontsize=11)
    return figure


def _histograms(axes: Axes, points: np.ndarray, samples: np.ndarray, limits: tuple[float, float]) -> None:
    edges = np.linspace(*limits, BINS + 1).tolist()
    axes.hist(points, bins=edges, density=True, color=style.BLUE, alpha=0.4)
    if len(samples):
        heights = np.histogram(samples, bins=edges)[0] / (len(samples) * (edges[1] - edges[0]))
        axes.stairs(heights, edges, color=style.VERMILION, linewidth=1.2)
    axes.set(xlim=limits, yticks=[])


def _limits(column: np.ndarray) -> tuple[float, float]:
    low, high = float(column.min()), float(column.max())
    margin = 0.1 * (high - low) or 1.0
    return low - margin, high + margin


def _name(axes: Axes, names: Sequence[str], i: int, j: int, *, last: bool) -> None:
    axes.tick_params(labelsize=7)
    if last:
        axes.set_xlabel(names[j], fontsize=9)
    else:
        axes.set_xticklabels([])
    if j == 0:
        axes.set_ylabel(names[i], fontsize=9)
    elif i != j:
        axes.set_yticklabels([])
