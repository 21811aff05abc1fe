"""The errors of an image classifier."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ode_runner.plots import style
from ode_runner.plots.figure_types import Figure


def draw_confusion(outputs: Tensor, targets: Tensor, *, names: Sequence[str]) -> Figure:
    """Counts of true against predicted classes. Misclassifications are shaded, the diagonal is not."""
    classes = outputs.shape[1]
    pairs = (targets * classes + outputs.argmax(dim=1)).cpu()
    counts = torch.bincount(pairs, minlength=classes**2).view(classes, classes)
    mistakes = counts.clone().fill_diagonal_(0)
    side = max(5.2, min(16.0, 0.42 * classes))
    figure = style.figure(side + 0.4, side)
    axes = figure.subplots()
    axes.imshow(mistakes.numpy(), cmap="Oranges", vmin=0, vmax=max(1, int(mistakes.max())))
    dark = 0.6 * int(mistakes.max())
    for row in range(classes):
        for column in range(classes):
            count = int(counts[row, column])
            if count:
                weight = "bold" if row == column else "normal"
                colour = "white" if int(mistakes[row, column]) > dark else "black"
                axes.text(column, row, str(count), ha="center", va="center", fontsize=8, weight=weight, color=colour)
    correct = int(counts.diagonal().sum())
    axes.set(
        title=f"Test set: {correct:,} of {len(targets):,} right ({correct / len(targets):.2%}); shaded: mistakes",
        xlabel="predicted", ylabel="true", xticks=range(classes), yticks=range(classes),
    )  # fmt: skip
    axes.set_yticklabels(names)
    axes.set_xticklabels(names, rotation=90 if max(map(len, names)) > 3 else 0)
    return figure


def draw_mistakes(
    images: Tensor,
    outputs: Tensor,
    targets: Tensor,
    *,
    names: Sequence[str],
    ink_on_paper: bool = True,
    shown: int = 20,
) -> Figure:
    """The misclassified test images with the highest loss, worst first.

    `ink_on_paper`: draw large values of a one-channel image dark.
    """
    losses = F.cross_entropy(outputs, targets, reduction="none")
    predicted = outputs.argmax(dim=1)
    wrong = torch.nonzero(predicted != targets).flatten()
    worst = wrong[losses[wrong].argsort(descending=True)][:shown].tolist()
    rows = max(1, -(-len(worst) // 5))
    figure = style.figure(6.4, 1.5 * rows + 0.5)
    for axes in (grid := figure.subplots(rows, 5, squeeze=False)).flat:
        axes.axis("off")
    probabilities = outputs.softmax(dim=1)
    for axes, index in zip(grid.flat, worst, strict=False):
        axes.imshow(images[index].permute(1, 2, 0).cpu().numpy(), cmap="gray_r" if ink_on_paper else "gray")
        certainty = float(probabilities[index, predicted[index]])
        true, said = names[int(targets[index])], names[int(predicted[index])]
        axes.set_title(f"{true} read as {said}\n({certainty:.0%} sure)", fontsize=7)
    figure.suptitle(f"The worst of {len(wrong)} mistakes among {len(targets):,} test images", fontsize=10)
    return figure
