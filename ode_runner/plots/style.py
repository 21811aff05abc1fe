"""Colours and sizes common to all pictures."""

from matplotlib.figure import Figure

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
    """An empty figure of the given size in inches."""
    return Figure(figsize=(width, height), dpi=120, layout="constrained")
