"""Points, regions and flows in the plane."""

from collections.abc import Callable

import torch
from torch import Tensor

from ode_runner.plots import style
from ode_runner.plots.animation import Animation
from ode_runner.plots.figure_types import Figure
from ode_runner.types import Trajectory

LEVELS = torch.linspace(0, 1, 21).tolist()  # contour levels of probabilities


def draw_decision_regions(points: Tensor, classes: Tensor, predict: Callable[[Tensor], Tensor]) -> Figure:
    """Probability of class 1 over the plane, with the test points; wrongly classified ones are ringed."""
    from matplotlib.colors import LinearSegmentedColormap

    low, high = points.amin(0) - 0.4, points.amax(0) + 0.4
    width, height = (high - low).tolist()
    figure = style.figure(min(6.4, 2.2 + 4.2 * width / height), 4.6)  # narrow, if the data are tall
    axes = figure.subplots()
    columns, rows = (torch.linspace(float(low[i]), float(high[i]), 200) for i in (0, 1))
    grid = torch.cartesian_prod(columns, rows).to(points)
    probability = predict(grid).softmax(dim=1)[:, 1].reshape(200, 200).T.cpu()
    two_classes = LinearSegmentedColormap.from_list("two classes", [style.BLUE, "white", style.ORANGE])
    shown = axes.contourf(columns, rows, probability, levels=LEVELS, cmap=two_classes, alpha=0.6, vmin=0, vmax=1)
    axes.contour(columns, rows, probability, levels=[0.5], colors="black", linewidths=1)
    wrong = (predict(points).argmax(dim=1) != classes).cpu()
    x, y = points.cpu().T
    for value, marker in ((0, "o"), (1, "^")):
        chosen = classes.cpu() == value
        axes.scatter(
            x[chosen], y[chosen], s=12, marker=marker, color=style.CLASSES[value], edgecolors="white",
            linewidths=0.3, label=f"class {value}",
        )  # fmt: skip
    axes.scatter(x[wrong], y[wrong], s=60, facecolors="none", edgecolors="black", label=f"wrong ({int(wrong.sum())})")
    figure.colorbar(shown, label="probability of class 1", ticks=[0, 0.25, 0.5, 0.75, 1], shrink=0.8)
    axes.set(title="Decision regions on the test set", xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
    axes.legend(loc="upper right", fontsize=8)
    return figure


def draw_flow(states: Trajectory, classes: Tensor, *, tested: int) -> Figure:
    """The paths of samples: the first two state coordinates, from the first state (small) to the last (large).

    The samples are the first of `tested` test samples.
    """
    figure = style.figure(6.4, 4.6)
    axes = figure.subplots()
    paths, labels = states[:, :, :2].cpu(), classes.cpu()
    for value, marker in ((0, "o"), (1, "^")):
        chosen = paths[:, labels == value]
        axes.plot(chosen[..., 0], chosen[..., 1], color=style.CLASSES[value], linewidth=0.6, alpha=0.5)
        axes.scatter(chosen[0, :, 0], chosen[0, :, 1], s=6, marker=marker, color=style.CLASSES[value], alpha=0.6)
        axes.scatter(
            chosen[-1, :, 0], chosen[-1, :, 1], s=22, marker=marker, color=style.CLASSES[value], edgecolors="black",
            linewidths=0.5, label=f"class {value}",
        )  # fmt: skip
    dimensions = states.shape[2]
    parts = style.part_of(len(labels), tested, "points"), style.part_of(2, dimensions, "dimensions")
    title = "Flow of test points: first state small, last one large"
    axes.set(title=f"{title}\n{style.titled('', *parts)}".rstrip(), xlabel="$y_1$", ylabel="$y_2$")
    axes.set_aspect("equal", adjustable="datalim")
    axes.title.set_fontsize(10)
    axes.legend(loc="best", fontsize=8)
    axes.grid(alpha=0.3)
    return figure


def animate_flow(states: Trajectory, classes: Tensor, *, lines: Trajectory | None, tested: int) -> Animation:
    """Samples on their way through depth, a frame for each state, and the image of a mesh under the flow, if given.

    Args:
        states: (frames, samples, dimensions); the first two dimensions are drawn.
        classes: (samples,), 0 or 1.
        lines: (frames, lines, nodes, dimensions), the mesh at the same times.
        tested: size of the test split, of which the samples are the first.
    """
    from matplotlib.collections import LineCollection

    points, labels = states[..., :2].cpu(), classes.cpu()
    low, high = points.amin((0, 1)), points.amax((0, 1))
    margin = 0.05 * (high - low).max()
    xlim, ylim = torch.stack([low - margin, high + margin], dim=1).tolist()
    tallness = (ylim[1] - ylim[0]) / (xlim[1] - xlim[0])
    figure = style.figure(4.6, 0.8 + min(5.0, max(2.4, 4.0 * tallness)))
    axes = figure.subplots()
    mesh = LineCollection([], colors=style.GREY, linewidths=0.5, alpha=0.35)
    axes.add_collection(mesh)
    dots = [
        axes.scatter([], [], s=16, marker=marker, color=style.CLASSES[value], edgecolors="white", linewidths=0.3)
        for value, marker in ((0, "o"), (1, "^"))
    ]
    axes.set(xlim=xlim, ylim=ylim, aspect="equal", xlabel="$y_1$", ylabel="$y_2$")
    some = style.part_of(len(labels), tested, "test points")
    begins = f"{some}\n" if some else "Test points "  # one line has no room for both

    def show(i: int) -> None:
        if lines is not None:
            mesh.set_segments(list(lines[i, ..., :2].cpu().numpy()))
        for value, drawn in enumerate(dots):
            drawn.set_offsets(points[i, labels == value].numpy())
        axes.set_title(f"{begins}on their way through depth: {i / (len(points) - 1):.0%}", fontsize=10)

    return Animation(figure=figure, show=show, frames=len(points), per_second=12)
