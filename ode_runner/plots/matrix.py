"""Matrices beside each other."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ode_runner.plots import style
from ode_runner.plots.figure_types import Figure

MOST_WRITTEN = 12  # rows and columns of a matrix whose elements are written into it


def draw_matrices(matrices: Mapping[str, Tensor], *, title: str) -> Figure:
    """Matrices (rows, columns) of equal shape, each under its name, with a common colour scale and their elements."""
    shown = {name: matrix.detach().cpu().double() for name, matrix in matrices.items()}
    most = max(float(matrix.abs().max()) for matrix in shown.values()) or 1.0
    figure = style.figure(3.3 * len(shown) + 0.8, 3.6)
    panels = list(figure.subplots(1, len(shown), squeeze=False)[0])
    for axes, (name, matrix) in zip(panels, shown.items(), strict=True):
        image = axes.imshow(matrix.numpy(), cmap="PuOr", vmin=-most, vmax=most)
        axes.set_title(name, fontsize=10)
        rows, columns = matrix.shape
        axes.set(xticks=range(columns), yticks=range(rows))
        axes.set_xticklabels([str(j + 1) for j in range(columns)])
        axes.set_yticklabels([str(i + 1) for i in range(rows)])
        if max(rows, columns) <= MOST_WRITTEN:
            for i, j in torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).tolist():
                colour = "white" if abs(float(matrix[i, j])) > 0.7 * most else "black"
                axes.text(j, i, f"{float(matrix[i, j]):.3g}", ha="center", va="center", fontsize=9, color=colour)
    figure.colorbar(image, ax=panels, shrink=0.8)
    figure.suptitle(title, fontsize=11)
    return figure
