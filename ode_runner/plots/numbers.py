"""Estimates of the parameters of an equation."""

from collections.abc import Mapping

from ode_runner.plots import style
from ode_runner.plots.figure_types import Axes, Figure

WIDEST = 12.0  # standard errors from the estimate to the ends of its axis; a truth beyond is given in words


def draw_estimates(values: Mapping[str, float], errors: Mapping[str, float], truths: Mapping[str, float]) -> Figure:
    """Each estimate on its own axis, with one and two standard errors, and the true value.

    Args:
        values: estimates by name.
        errors: standard errors of the parameters that the data determine.
        truths: true values, of the parameters for which they are known.
    """
    figure = style.figure(7.2, 0.9 + 0.85 * len(values))
    rows = figure.subplots(len(values), 1, squeeze=False)[:, 0]
    for axes, (name, value) in zip(rows, values.items(), strict=True):
        _draw_number(axes, name, value, errors.get(name, 0.0), truths.get(name))
    handles = {label: handle for axes in rows for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside upper left", ncols=4, frameon=False, fontsize=9)
    return figure


def _draw_number(axes: Axes, name: str, value: float, error: float, truth: float | None) -> None:
    from matplotlib.ticker import MaxNLocator

    low = high = value
    if error > 0:
        axes.plot(
            [value - 2 * error, value + 2 * error], [0, 0], color=style.SKY, linewidth=3, label="2 standard errors"
        )
        axes.plot([value - error, value + error], [0, 0], color=style.BLUE, linewidth=7, label="1 standard error")
        low, high = value - 3 * error, value + 3 * error
    axes.plot([value], [0], "o", color="black", markersize=5, label="estimate")
    beside = "" if error else "no standard error"
    if truth is not None and (not error or abs(truth - value) < WIDEST * error):
        axes.plot([truth, truth], [-0.8, 0.8], color=style.VERMILION, linewidth=2, label="truth")
        low, high = min(low, truth), max(high, truth)
    elif truth is not None:
        beside = f"truth {truth:.6g}, {abs(truth - value) / error:.3g} standard errors away"
    margin = 0.08 * (high - low) or 0.1 * abs(value) or 1.0
    axes.set(xlim=(low - margin, high + margin), ylim=(-1, 1), yticks=[])
    axes.set_ylabel(name, rotation=0, ha="right", va="center")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4))
    axes.text(0.99, 0.95, beside, transform=axes.transAxes, ha="right", va="top", fontsize=8)
    axes.spines[["left", "right", "top"]].set_visible(False)
