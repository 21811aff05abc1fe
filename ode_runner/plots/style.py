"""Colours, sizes and numbers common to all pictures."""

import math

from matplotlib.axis import Axis
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, MaxNLocator, ScalarFormatter

# Okabe, Ito. Color Universal Design. 2008: told apart with any common colour blindness.
BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, GREY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#666666",
)
CLASSES = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, GREY)
ORDERED = (
    "#440154",
    "#414487",
    "#2A788E",
    "#22A884",
    "#7AD151",
    "#DDB310",
)  # viridis, its last darkened for white paper


def figure(width: float, height: float) -> Figure:
    """An empty figure of the given size in inches, which writes numbers as `number_plainly` does."""
    return _PlainFigure(figsize=(width, height), dpi=120, layout="constrained")


def count_in_whole_numbers(axis: Axis) -> None:
    """Ticks of epochs, evaluations or samples, of which there are no parts."""
    axis.set_major_locator(MaxNLocator(nbins=8, integer=True))


def number_plainly(axis: Axis) -> None:
    """0.2 rather than 2 x 10^-1, and no offset beside the axis; unless a picture has set a formatter of its own."""
    formatter = axis.get_major_formatter()
    if isinstance(formatter, LogFormatter) and axis.get_scale() == "log":
        axis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set_minor_formatter(lambda value, _: _between(value, *sorted(axis.get_view_interval())))
    elif isinstance(formatter, ScalarFormatter):
        formatter.set_useOffset(False)
        formatter.set_scientific(False)


def _between(value: float, low: float, high: float) -> str:
    """A number between two powers of ten on a logarithmic axis, where there is room for it."""
    leading = round(value / 10 ** math.floor(math.log10(value)))
    few = {2, 5} if high / low < 1000 else set()
    return f"{value:g}" if high / low < 5 or leading in few else ""


class _PlainFigure(Figure):
    """Which formatter an axis has is settled when it is drawn: a change of its scale sets another."""

    def draw(self, renderer: RendererBase) -> None:
        for axes in self.axes:
            for axis in (axes.xaxis, axes.yaxis):
                number_plainly(axis)
        super().draw(renderer)
