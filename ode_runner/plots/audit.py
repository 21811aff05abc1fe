"""Gradient modes side by side: the error and the cost of each."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from ode_runner.plots import style
from ode_runner.plots.figure_types import Axes, Figure


class Row(NamedTuple):
    """One gradient mode. Errors are relative; NaN: there is no reference."""

    name: str
    solution_error: float
    flow_error: float
    nfe: tuple[float, float]  # forward, backward
    saved_bytes: float  # NaN: not measured
    milliseconds: float


def draw_audit(rows: Sequence[Row], *, title: str, flow_uncertainty: float) -> Figure:
    """Relative errors, evaluations, memory and time; each mode is one row."""
    figure = style.figure(13, 1.7 + max(1.0, 0.34 * len(rows)))
    figure.suptitle(title, fontsize=10)
    errors, nfe, memory, time = figure.subplots(1, 4, sharey=True, width_ratios=[1.7, 1, 1, 1])
    places = range(len(rows))
    _points(errors, places, [row.solution_error for row in rows], style.BLUE, "o", "the solution's gradient")
    _points(errors, places, [row.flow_error for row in rows], style.ORANGE, "D", "the flow's gradient")
    if flow_uncertainty > 0:
        label = "how well that is known"
        errors.axvline(flow_uncertainty, color=style.ORANGE, linestyle=":", linewidth=1, label=label)
    errors.set(xscale="log", xlabel="relative error against ...")
    _whole_decades(errors)
    forward, backward = zip(*(row.nfe for row in rows), strict=True)
    nfe.barh(places, forward, color=style.BLUE, label="forward")
    nfe.barh(places, backward, left=forward, color=style.SKY, label="backward")
    nfe.set(xlabel="evaluations of the field (NFE)")
    _memory(memory, places, [row.saved_bytes / 1e6 for row in rows])
    time.barh(places, [row.milliseconds for row in rows], color=style.GREY)
    time.set(xlabel="time [ms]")
    errors.set_yticks(places, [row.name for row in rows])
    errors.invert_yaxis()
    for axes in (errors, nfe, memory, time):
        axes.grid(alpha=0.3, axis="x")
    for axes in (errors, nfe):
        axes.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False)
    return figure


def _memory(axes: Axes, places: Sequence[int], megabytes: Sequence[float]) -> None:
    if all(map(math.isnan, megabytes)):
        axes.set(xticks=[], xlabel="saved for the backward pass:\nnot measured")
        return
    axes.barh(places, megabytes, color=style.GREEN)
    axes.set(xscale="log", xlabel="saved for the backward pass [MB]")
    _whole_decades(axes)


def _whole_decades(axes: Axes) -> None:
    """Limits the axis at powers of ten, and labels only those."""
    from matplotlib.ticker import NullFormatter

    low, high = axes.get_xlim()
    axes.set_xlim(10 ** math.floor(math.log10(low)), 10 ** math.ceil(math.log10(high)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())


def _points(axes: Axes, places: Sequence[int], values: Sequence[float], colour: str, marker: str, label: str) -> None:
    axes.plot(values, places, marker, color=colour, label=label, markersize=6)
