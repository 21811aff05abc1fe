"""Several configurations in one figure: curves with bands over seeds, and trade-offs with their Pareto front."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ode_runner.plots import style
from ode_runner.plots.figure_types import Axes, Figure

LINES = ("-", "--", ":", "-.")
EPOCH = "epoch"
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


@dataclass(frozen=True, kw_only=True)
class Look:
    """How one configuration is drawn in every figure."""

    label: str
    colour: int
    shape: int
    ordered: bool = False  # the configurations are ranges of a number, from low to high

    def line(self) -> dict[str, Any]:
        return {"color": self._colour(), "linestyle": LINES[self.shape % len(LINES)]}

    def marker(self) -> dict[str, Any]:
        return {"color": self._colour(), "marker": MARKERS[self.shape % len(MARKERS)]}

    def _colour(self) -> str:
        colours = style.ORDERED if self.ordered else style.CLASSES
        return colours[self.colour % len(colours)]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Mean, minimum and maximum over seeds at increasing x."""

    look: Look
    x: Sequence[float]
    mean: Sequence[float]
    least: Sequence[float]
    most: Sequence[float]


@dataclass(frozen=True, kw_only=True)
class Point:
    """Cost x and quality y of a configuration, with standard deviations over seeds."""

    look: Look
    x: float
    y: float
    x_deviation: float = 0.0
    y_deviation: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Axis:
    """The label of an axis and the format of its numbers."""

    label: str
    percent: bool = False
    log: bool = False
    from_zero: bool = False


def draw_curves(panels: Mapping[str, tuple[Axis, Sequence[Curve]]], *, x: str = EPOCH) -> Figure:
    """One panel for each title, side by side. `x`: label of the horizontal axis."""
    figure, grid = _panels(len(panels))
    for axes, (title, (axis, curves)) in zip(grid, panels.items(), strict=True):
        for curve in curves:
            alone = "o" if len(curve.x) == 1 else ""  # a line through one point is invisible
            axes.plot(curve.x, curve.mean, label=curve.look.label, linewidth=1.5, marker=alone, **curve.look.line())
            if curve.least != curve.most:
                axes.fill_between(
                    curve.x, curve.least, curve.most, alpha=0.15, linewidth=0, color=curve.look.line()["color"]
                )
        axes.set(title=title, xlabel=x)
        if x == EPOCH and any(curve.x[-1] >= 1 for curve in curves):
            style.count_in_whole_numbers(axes.xaxis)
        _finish(axes, axis)
    _legend(figure, grid)
    return figure


def draw_trade_offs(
    panels: Mapping[Axis, Sequence[Point]], quality: Axis, *, higher_is_better: bool, legend: Sequence[Look] = ()
) -> Figure:
    """Quality against each cost. The points of the Pareto front are ringed and joined.

    The legend names every point, unless `legend` is given.
    """
    figure, grid = _panels(len(panels))
    for axes, (cost, points) in zip(grid, panels.items(), strict=True):
        for point in points:
            axes.errorbar(
                point.x, point.y, xerr=point.x_deviation or None, yerr=point.y_deviation or None, linestyle="none",
                markersize=7, elinewidth=0.8, alpha=0.9, label="" if legend else point.look.label,
                **point.look.marker(),
            )  # fmt: skip
        front = pareto_front(points, higher_is_better=higher_is_better)
        axes.step(
            [point.x for point in front], [point.y for point in front], where="post", color="black", linewidth=0.9,
            marker="o", markersize=13, markerfacecolor="none", zorder=0.5, label="Pareto front",
        )  # fmt: skip
        if cost.log:
            axes.set_xscale("log")
        else:
            axes.locator_params(axis="x", nbins=5)  # more labels of six digits would overlap
        axes.set(xlabel=cost.label)
        _finish(axes, quality)
    for axes in grid[1:]:
        axes.set_ylabel("")
    for look in legend:
        grid[0].plot([], [], linestyle="none", markersize=7, label=look.label, **look.marker())
    _legend(figure, grid)
    return figure


def draw_memory(curves: Sequence[Curve]) -> Figure:
    """Megabytes kept for the backward pass against the number of solver steps."""
    figure, [axes] = _panels(1)
    for curve in curves:
        look = {**curve.look.line(), **curve.look.marker()}
        axes.plot(curve.x, curve.mean, label=curve.look.label, markersize=5, **look)
    axes.set(xlabel="solver steps per unit of time (solver.num_steps)")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    _finish(axes, Axis(label="saved for the backward pass [MB]", log=True))
    _legend(figure, [axes])
    return figure


def draw_error_against_evaluations(curves: Sequence[Curve], *, error: str, evaluations: str) -> Figure:
    """Errors against evaluations, both on logarithmic axes."""
    figure, [axes] = _panels(1)
    figure.set_size_inches(6.0, 5.0)
    for curve in curves:
        look = {**curve.look.line(), **curve.look.marker()}
        axes.plot(curve.x, curve.mean, label=curve.look.label, markersize=4, linewidth=1.2, **look)
    axes.set(xlabel=f"evaluations of the field for a batch ({evaluations})")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    _finish(axes, Axis(label=error, log=True))
    _legend(figure, [axes])
    return figure


def pareto_front(points: Sequence[Point], *, higher_is_better: bool) -> list[Point]:
    """The points that no other point dominates, by increasing cost: no other is as good at a lower or equal cost."""
    sign = 1 if higher_is_better else -1
    front: list[Point] = []
    for point in sorted(points, key=lambda point: (point.x, -sign * point.y)):
        if not front or sign * point.y > sign * front[-1].y:
            front.append(point)
    return front


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    figure = style.figure(4.3 * count, 3.8)  # size without the legend
    return figure, list(figure.subplots(1, count, squeeze=False)[0])


def _finish(axes: Axes, axis: Axis) -> None:
    axes.set_ylabel(axis.label)
    if axis.percent:
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.4g} %")
        axes.set_ylim(top=min(axes.get_ylim()[1], 1.005))  # an error bar may reach beyond 100 %
    if axis.log and not any(np.any(np.asarray(line.get_ydata()) <= 0) for line in axes.get_lines()):
        axes.set_yscale("log")  # a logarithmic axis would drop a log density below 0
    if axis.from_zero:
        axes.set_ylim(0, None)
    axes.grid(alpha=0.3)


def _legend(figure: Figure, grid: Sequence[Axes]) -> None:
    """One legend for all panels, beside them. The figure grows by its width, so that the panels keep theirs."""
    handles = {label: handle for axes in grid for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    if not handles:
        return
    words = style.wrapped(handles)
    lines = [line for label in words for line in label.split("\n")]
    width, height = figure.get_size_inches()
    beside = style.HANDLE + style.LETTER * max(map(len, lines))
    figure.set_size_inches(width + beside, max(height, 0.3 + style.LINE * len(lines) + style.GAP * len(words)))
    figure.legend(list(handles.values()), words, loc="outside right upper", fontsize=8, frameon=False)
