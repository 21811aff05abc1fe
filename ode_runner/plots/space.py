"""Points in space on their way through depth."""

from torch import Tensor

from ode_runner.plots import style
from ode_runner.plots.figure_types import Figure
from ode_runner.types import Trajectory

PANELS = 3


def draw_states_in_space(states: Trajectory, classes: Tensor, *, tested: int) -> Figure:
    """The first three state coordinates of each sample at the input, halfway and at the head.

    Args:
        states: (times, samples, dimensions), with at least three dimensions.
        classes: (samples,), 0 or 1.
        tested: size of the test split, of which the samples are the first.
    """
    figure = style.figure(3.9 * PANELS, 4.2)
    places, labels = [round(i * (len(states) - 1) / (PANELS - 1)) for i in range(PANELS)], classes.cpu()
    for panel, place in enumerate(places, start=1):
        axes = figure.add_subplot(1, PANELS, panel, projection="3d")
        points = states[place, :, :3].cpu()
        for value, marker in ((0, "o"), (1, "^")):
            axes.scatter(
                *points[labels == value].T.numpy(), s=14, marker=marker, color=style.CLASSES[value], alpha=0.8,
                linewidths=0, label=f"class {value}",
            )  # fmt: skip
        axes.set(xlabel="$y_1$", ylabel="$y_2$", zlabel="$y_3$")
        axes.tick_params(labelsize=7)
        axes.set_box_aspect(None, zoom=0.85)  # without this, the label of the vertical axis is cut off
        axes.locator_params(nbins=5)
        axes.set_title(f"depth {place / (len(states) - 1):.0%}", fontsize=10)
    dimensions = states.shape[2]
    parts = style.part_of(len(labels), tested, "points"), style.part_of(3, dimensions, "coordinates")
    figure.suptitle(style.titled("Test points on their way from input to head", *parts), fontsize=11)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", fontsize=8, ncols=2)
    return figure
