"""Colours, sizes and numbers common to all pictures."""

from collections.abc import Iterable
from textwrap import fill

from ode_runner.plots.figure_types import Axis, Figure

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

# Inches of a legend at a font size of 8.
LETTER = 0.067
LINE = 0.16
HANDLE = 0.5  # what is before words


def figure(width: float, height: float) -> Figure:
    """An empty figure of the given size in inches, which writes numbers plainly."""
    from ode_runner.plots.plain_figure import PlainFigure

    return PlainFigure(figsize=(width, height), dpi=120, layout="constrained")


def part_of(shown: int, there: int, things: str) -> str:
    """What a title says of a picture that shows the first of many; "" where it shows them all."""
    return f"the first {shown} of {there:,} {things}" if shown < there else ""


def titled(title: str, *parts: str) -> str:
    """A title with what `part_of` says of each of its parts."""
    return "; ".join(filter(None, [title, *parts]))


def wrapped(labels: Iterable[str], *, letters: int = 48) -> list[str]:
    """Words of a legend in lines of so many letters, so that long ones take no room from what is drawn."""
    return [fill(label, letters, break_long_words=False) for label in labels]


def count_in_whole_numbers(axis: Axis) -> None:
    """Ticks of epochs, evaluations or samples, of which there are no parts."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
