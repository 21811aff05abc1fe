"""Measured series and a model's forecasts of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ode_runner.plots import style
from ode_runner.plots.figure_types import Axes, Figure

MOST_COLUMNS = 6  # a figure with more would be unreadable
COLOURS = (style.BLUE, style.VERMILION, style.GREEN)


class Line(NamedTuple):
    """A forecast of a model, in the units of the file."""

    label: str
    times: np.ndarray  # (time,)
    values: np.ndarray  # (time, column)
    half_width: np.ndarray | None  # half width of a band, (time, column)
    band: str = ""  # label of the band


@dataclass(frozen=True, kw_only=True, eq=False)
class Panel:
    """One series: its measurements and the forecasts."""

    title: str
    times: np.ndarray  # of the measurements; datetime64 for dates
    values: np.ndarray  # (time, column); NaN: missing
    lines: Sequence[Line]
    test_begin: float | None  # time after which rows were held back for the test
    read: np.ndarray | None = None  # (time,), bool: measurements given to the model; None: all are drawn alike
    asked: np.ndarray | None = None  # (time,), bool: measurements that the model was asked to forecast


def draw_forecasts(panels: Sequence[Panel], columns: Sequence[str], time: str, *, series: int) -> Figure:
    """A row of axes for each of the first columns; a column of axes for each panel, the first of `series` series."""
    shown = columns[:MOST_COLUMNS]
    figure = style.figure(max(8.5, 4.2 * len(panels)), 2.1 * len(shown) + 0.8)
    grid = figure.subplots(len(shown), len(panels), sharex="col", squeeze=False)
    for across, panel in enumerate(panels):
        for down, name in enumerate(shown):
            _draw(grid[down, across], panel, down)
            grid[down, across].set_ylabel(name if across == 0 else "")
        grid[-1, across].set_xlabel(time)
        if np.issubdtype(panel.times.dtype, np.datetime64):
            from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

            locator = AutoDateLocator(maxticks=8)
            grid[-1, across].xaxis.set(major_locator=locator, major_formatter=ConciseDateFormatter(locator))
        grid[0, across].set_title(panel.title, fontsize=10)
    parts = style.part_of(len(panels), series, "series"), style.part_of(len(shown), len(columns), "columns")
    if any(parts):
        figure.suptitle(style.titled("", *parts), fontsize=10)
    _legend(figure, grid[0, 0])
    return figure


def _legend(figure: Figure, axes: Axes) -> None:
    """One legend for all axes, below them, in as many columns as fit."""
    handles, labels = axes.get_legend_handles_labels()
    words = style.wrapped(labels)
    longest = max(len(line) for label in words for line in label.split("\n"))
    width, height = figure.get_size_inches()
    abreast = min(len(words), max(1, int(width / (0.1 + style.HANDLE + style.LETTER * longest))))
    figure.set_size_inches(width, height + style.LINE * len(words) / abreast)
    figure.legend(handles, words, loc="outside lower center", fontsize=8, ncols=abreast)


def _draw(axes: Axes, panel: Panel, column: int) -> None:
    _measurements(axes, panel, column)
    for line, colour in zip(panel.lines, COLOURS, strict=False):
        middle = line.values[:, column]
        axes.plot(line.times, middle, color=colour, linewidth=1.6, label=line.label)
        if line.half_width is not None:
            half = line.half_width[:, column]
            look: dict[str, Any] = {"color": colour, "alpha": 0.2, "linewidth": 0}
            axes.fill_between(line.times, middle - half, middle + half, label=line.band, **look)
    if panel.test_begin is not None:
        axes.axvline(panel.test_begin, color=style.GREY, linewidth=0.8, linestyle=":", label="start of the test")
    axes.grid(alpha=0.3)


def _measurements(axes: Axes, panel: Panel, column: int) -> None:
    """Measurements: filled if given to the model, hollow if it was asked for them, pale otherwise."""
    values = panel.values[:, column]
    if panel.read is None or panel.asked is None:
        axes.plot(panel.times, values, "o", color="black", markersize=3, label="measured", zorder=3)
        return
    others = ~(panel.read | panel.asked)
    looks: list[tuple[str, np.ndarray, dict[str, Any]]] = [
        ("measured, and read", panel.read, {"color": "black"}),
        ("measured, and forecast", panel.asked, {"color": "black", "markerfacecolor": "white", "markeredgewidth": 0.9}),
        ("measured, neither", others, {"color": style.GREY, "alpha": 0.5}),
    ]
    for label, rows, look in looks:
        if rows.any():
            axes.plot(panel.times[rows], values[rows], "o", markersize=3.5, label=label, zorder=3, **look)
