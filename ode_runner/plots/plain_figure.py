"""Figures with numbers in plain notation."""

import math
from collections.abc import Sequence

from matplotlib.axis import Axis
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, ScalarFormatter


class PlainFigure(Figure):
    """A figure that sets the formatters of its axes when drawn, because a change of scale replaces a formatter."""

    def draw(self, renderer: RendererBase) -> None:
        for axes in self.axes:
            for axis in (axes.xaxis, axes.yaxis):
                number_plainly(axis)
        super().draw(renderer)


def number_plainly(axis: Axis) -> None:
    """Writes 0.2 rather than 2 x 10^-1, and no offset beside the axis; other formatters are kept.

    Numbers with more than seven digits are written as 2e-07 and 5e+08, if they remain distinct.
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
    """Whether labels would be so long that they overlap, and remain distinct in a form such as 2e-07."""
    largest = max(map(abs, places), default=1.0)
    return not 1e-4 < largest < 1e7 and len({f"{place:g}" for place in places}) == len(places)


def _between(value: float, low: float, high: float) -> str:
    """The label of a number between two powers of ten on a logarithmic axis; "" if there is no room for it."""
    leading = round(value / 10 ** math.floor(math.log10(value)))
    few = {2, 5} if high / low < 1000 else set()
    return f"{value:g}" if high / low < 5 or leading in few else ""
