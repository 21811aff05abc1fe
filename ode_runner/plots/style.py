"""Colours, sizes and number formats common to all figures."""

from collections.abc import Iterable
from textwrap import fill

from ode_runner.plots.figure_types import Axis, Figure

# Okabe, Ito. Color Universal Design. 2008: distinguishable with every common colour blindness.
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
)  # viridis; the last colour is darkened for white paper

# Sizes in a legend in inches, at a font size of 8.
LETTER = 0.067
LINE = 0.16
GAP = 0.02  # between two labels
HANDLE = 0.5  # the handle before the words


def figure(width: float, height: float) -> Figure:
    """An empty figure of the given size in inches, with numbers in plain notation."""
    from ode_runner.plots.plain_figure import PlainFigure

    return PlainFigure(figsize=(width, height), dpi=120, layout="constrained")


def part_of(shown: int, there: int, things: str) -> str:
    """The part of a title that says that only the first of many are shown; "" if all are."""
    return f"the first {shown} of {there:,} {things}" if shown < there else ""


def titled(title: str, *parts: str) -> str:
    """A title followed by those of its `part_of` parts that are not empty."""
    return "; ".join(filter(None, [title, *parts]))


def wrapped(labels: Iterable[str], *, letters: int = 48) -> list[str]:
    """Legend labels wrapped at so many letters, so that long labels take no room from the plot."""
    return [fill(label, letters, break_long_words=False) for label in labels]


def count_in_whole_numbers(axis: Axis) -> None:
    """Ticks at whole numbers only, for epochs, evaluations or samples."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
