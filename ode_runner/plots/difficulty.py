"""The number of evaluations that a solver needs for each sample."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ode_runner.plots import style
from ode_runner.plots.figure_types import Axes, Figure

COLUMNS, ROWS = 8, 2  # of the hardest images, and again of the easiest
FEW = 8  # up to so many different counts, each has its own tick or colour


def draw_evaluations(evaluations: Tensor, groups: Mapping[str, Tensor]) -> Figure:
    """Histogram of evaluations per sample, and the mean of each of the `groups` of samples, if there are any."""
    figure = style.figure(10 if groups else 5.6, max(3.6, 0.24 * len(groups) + 1.2))
    axes = figure.subplots(1, 2 if groups else 1, squeeze=False)[0]
    values, counts = evaluations.unique(return_counts=True)
    gap = float(values.diff().min()) if len(values) > 1 else 1.0
    axes[0].bar(values.tolist(), counts.tolist(), width=0.8 * gap, color=style.BLUE)
    if len(values) <= FEW and bool((values % 1 == 0).all()):
        axes[0].set_xticks(values.tolist())
    else:
        style.count_in_whole_numbers(axes[0].xaxis)
    style.count_in_whole_numbers(axes[0].yaxis)
    mean = float(evaluations.mean())
    axes[0].axvline(mean, color=style.VERMILION, linestyle="--", label=f"mean {mean:.1f}")
    axes[0].set(title="Evaluations of the field per test sample", xlabel="evaluations", ylabel="samples")
    axes[0].legend()
    if groups:
        _draw_groups(axes[1], groups, evaluations)
    return figure


def _draw_groups(axes: Axes, groups: Mapping[str, Tensor], evaluations: Tensor) -> None:
    parts = [evaluations[chosen] for chosen in groups.values()]
    means, spreads = [float(part.mean()) for part in parts], [float(part.std(correction=0)) for part in parts]
    axes.barh(list(groups), means, xerr=spreads, color=style.SKY, ecolor=style.GREY)
    axes.invert_yaxis()
    axes.set(title="Mean and standard deviation", xlabel="evaluations", xlim=(0, None))
    style.count_in_whole_numbers(axes.xaxis)


def draw_difficulty_in_the_plane(points: Tensor, evaluations: Tensor, *, title: str, names: tuple[str, str]) -> Figure:
    """Test samples in the plane, coloured by evaluations, hard ones on top; a legend names few different counts."""
    from matplotlib import colormaps

    figure = style.figure(6.4, 4.6)
    axes = figure.subplots()
    order = evaluations.argsort(stable=True)
    look: dict[str, Any] = {"s": 24, "edgecolors": "black", "linewidths": 0.3}
    numbers = evaluations.unique().tolist()
    if len(numbers) <= FEW:
        for number, colour in zip(
            numbers, colormaps["viridis"](torch.linspace(0, 1, len(numbers)).numpy()), strict=True
        ):
            chosen = points.cpu()[evaluations.cpu() == number].T.tolist()
            axes.scatter(*chosen, color=colour, label=f"{number:g}", **look)
        figure.legend(loc="outside right center", title="evaluations", fontsize=8)
    else:
        x, y = points.cpu()[order].T.tolist()
        shown = axes.scatter(x, y, c=evaluations[order].tolist(), cmap="viridis", **look)
        figure.colorbar(shown, label="evaluations", shrink=0.8)
    axes.set(title=title, xlabel=f"${names[0]}$", ylabel=f"${names[1]}$", aspect="equal")
    axes.grid(alpha=0.3)
    return figure


def draw_hardest_and_easiest(
    images: Tensor, labels: Tensor, evaluations: Tensor, *, names: Sequence[str], ink_on_paper: bool
) -> Figure:
    """The test images with the most evaluations and those with the fewest, with the names of their classes.

    `ink_on_paper`: draw large values of a one-channel image dark.
    """
    order = evaluations.argsort(descending=True, stable=True)
    half = min(COLUMNS * ROWS, max(1, len(order) // 2))
    rows = -(-half // COLUMNS)
    figure = style.figure(8.6, 2.9 * rows + 0.8)
    shown = (("The hardest", order[:half]), ("The easiest", order.flip(0)[:half]))
    for part, (title, chosen) in zip(figure.subfigures(2, 1, squeeze=False).flat, shown, strict=True):
        part.suptitle(f"{title} of {len(order):,} test images: label, evaluations", fontsize=10)
        for axes in (grid := part.subplots(rows, COLUMNS, squeeze=False)).flat:
            axes.axis("off")
        for axes, index in zip(grid.flat, chosen.tolist(), strict=False):
            axes.imshow(images[index].permute(1, 2, 0).cpu().numpy(), cmap="gray_r" if ink_on_paper else "gray")
            axes.set_title(f"{names[int(labels[index])]}, {float(evaluations[index]):g}", fontsize=7)
    return figure
