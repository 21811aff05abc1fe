"""Figures that write numbers plainly."""

import math
from collections.abc import Sequence

from matplotlib.axis import Axis
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, ScalarFormatter


class PlainFigure(Figure):
    """Which formatter an axis has is settled when it is drawn: a change of its scale sets another."""

    def draw(self, renderer: RendererBase) -> None:
        for axes in self.axes:
            for axis in (axes.xaxis, axes.yaxis):
                number_plainly(axis)
        super().draw(renderer)


def number_plainly(axis: Axis) -> None:
    """0.2 rather than 2 x 10^-1, and no offset beside the axis; unless a picture has set a formatter of its own.

    Numbers of more than seven signs are 2e-07 and 5e+08, where that tells them apart.
    """
    formatter = axis.get_major_formatter()
    if isinstance(formatter, LogFormatter) and axis.get_scale() == "log":
        axis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set_minor_formatter(lambda value, _: _between(value, *sorted(axis.get_view_interval())))
    elif isinstance(formatter, ScalarFormatter):
        formatter.set_useOffset(False)
        formatter.set_scientific(False)
        if _is_shorter_by_powers(list(axis.get_majorticklocs())):
            axis.set_major_formatter(lambda value, _: f"{value:g}")


def _is_shorter_by_powers(places: Sequence[float]) -> bool:
    """Whether numbers are so large, or so small, that they would run into each other, and are told apart as 2e-07."""
    largest = max(map(abs, places), default=1.0)
    return not 1e-4 < largest < 1e7 and len({f"{place:g}" for place in places}) == len(places)


def _between(value: float, low: float, high: float) -> str:
    """A number between two powers of ten on a logarithmic axis, where there is room for it."""
    leading = round(value / 10 ** math.floor(math.log10(value)))
    few = {2, 5} if high / low < 1000 else set()
    return f"{value:g}" if high / low < 5 or leading in few else ""
