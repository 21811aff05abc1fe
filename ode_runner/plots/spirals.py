"""Reconstructed, continued and generated spirals."""

import torch
from torch import Tensor

from ode_runner.batch import Batch
from ode_runner.plots import style
from ode_runner.plots.figure_types import Axes, Figure

SHORTEST = 0.6  # shorter side of a panel, relative to the longer one


def draw_reconstructions(batch: Batch, forward: Tensor, backward: Tensor | None, *, window: int, tested: int) -> Figure:
    """Each spiral of the batch, the first of `tested`: its observations, the true curve and the model's curve.

    `forward` (time, batch, 2): the model in the observed window and after it; `backward`: before it, nearest first.
    """
    figure = style.figure(12, 6.4)
    grid = list(figure.subplots(2, 4, squeeze=False).flat)
    clean, noisy = batch.targets[..., 1].cpu(), batch.targets[..., 0].cpu()
    seen = torch.ones(noisy.shape[:2], dtype=torch.bool) if batch.observed is None else batch.observed.cpu()
    for axes in grid:
        axes.axis("off")
    for sample, axes in zip(range(forward.shape[1]), grid, strict=False):
        axes.axis("on")
        axes.plot(*clean[:, sample].T, color="black", linewidth=0.9, label="true")
        axes.plot(*noisy[seen[:, sample], sample].T, ".", color=style.GREY, markersize=3, label="observed")
        path = forward[:, sample].cpu()
        axes.plot(*path[:window].T, color=style.BLUE, linewidth=1.8, label="model, observed window")
        axes.plot(*path[window - 1 :].T, "--", color=style.VERMILION, linewidth=1.8, label="model, beyond it")
        if backward is not None:
            before = backward[:, sample].cpu()
            axes.plot(*before.T, ":", color=style.PURPLE, linewidth=1.8, label="model, before it")
        _frame(axes, clean[:, sample])
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=9)
    some = style.part_of(forward.shape[1], tested, "spirals")
    figure.suptitle(style.titled("Test spirals", some), fontsize=11)
    return figure


def draw_prior_samples(paths: Tensor) -> Figure:
    """Curves (time, samples, 2) from initial states drawn from the prior."""
    return _draw_gallery(paths, rows=3, title="Spirals from initial states drawn from the prior; dots: initial states")


def draw_walk(paths: Tensor) -> Figure:
    """Curves (time, steps, 2) from initial states on a line."""
    return _draw_gallery(
        paths, rows=2, title="Linear interpolation in the latent space, between the initial states of two test spirals"
    )


def _draw_gallery(paths: Tensor, *, rows: int, title: str) -> Figure:
    columns = -(-paths.shape[1] // rows)
    low, high = _no_strip(paths.amin(dim=(0, 1)) - 0.5, paths.amax(dim=(0, 1)) + 0.5)
    tallness = (high[1] - low[1]) / (high[0] - low[0])
    figure = style.figure(2.4 * columns, 2.4 * tallness * rows + 0.8)
    for number, axes in enumerate(figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat):
        if number >= paths.shape[1]:
            axes.axis("off")
            continue
        path = paths[:, number].cpu()
        axes.plot(*path.T, color=style.BLUE, linewidth=1.2)
        axes.plot(*path[0], "o", color="black", markersize=3)
        axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal")
        axes.grid(alpha=0.3)
    figure.suptitle(title, fontsize=11)
    return figure


def _no_strip(low: Tensor, high: Tensor) -> tuple[list[float], list[float]]:
    """Limits of both coordinates; neither range is narrower than SHORTEST times the other."""
    width = high - low
    more = (SHORTEST * width.max() - width).clamp_min(0) / 2
    return (low - more).tolist(), (high + more).tolist()


def _frame(axes: Axes, clean: Tensor) -> None:
    """Limits around the true curve, so that a wild extrapolation leaves the panel instead of shrinking the curve."""
    centre, reach = (clean.amax(0) + clean.amin(0)) / 2, float((clean.amax(0) - clean.amin(0)).max()) * 0.75 + 0.5
    axes.set(
        xlim=(float(centre[0]) - reach, float(centre[0]) + reach),
        ylim=(float(centre[1]) - reach, float(centre[1]) + reach),
        aspect="equal",
    )
    axes.grid(alpha=0.3)
