"""Probabilities of a few states over time, beside the true ones."""

from torch import Tensor

from ode_runner.plots import style
from ode_runner.plots.figure_types import Figure
from ode_runner.types import Times

MOST_STATES = 10  # more lines could not be told apart


def draw_probabilities(ts: Times, true: Tensor, found: Tensor) -> Figure:
    """Distributions (time, state): the true ones as lines, and the solved ones as dots."""
    figure = style.figure(8.5, 4.2)
    axes = figure.subplots()
    shown = min(true.shape[1], MOST_STATES)
    axes.set_title(style.part_of(shown, true.shape[1], "states"), fontsize=10)
    for state in range(shown):
        colour = f"C{state}"
        axes.plot(ts, true[:, state], color=colour, linewidth=1.3, label=f"state {state}")
        axes.plot(ts, found[:, state], "o", color=colour, markersize=3.5)
    axes.plot([], [], color="black", label="true")
    axes.plot([], [], "o", color="black", markersize=3.5, label="solved")
    axes.set(xlabel="t", ylabel="probability", ylim=(0, None))
    if ts[0] > ts[-1]:
        axes.invert_xaxis()  # the solve goes backward in time: the axis runs from its first time to its last
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    return figure
