"""What models learn about depth: weights that depend on depth, and the time at which each sample's solve ends."""

from collections.abc import Callable

import torch
from torch import Tensor

from ode_runner.plots import style
from ode_runner.plots.figure_types import Figure

LEGEND = 6  # up to so many layers or weights, all are named
LINES = 24  # weights that are drawn: those that change most


def draw_weights(times: Tensor, weights: Tensor) -> Figure:
    """Weights (times, weights) over depth: those that change most, and the distance of all from the first ones.

    Args:
        times: (times,); two equal neighbours are the two sides of a jump.
    """
    times, weights = times.detach().cpu().double(), weights.detach().cpu().double()
    figure = style.figure(9.0, 3.6)
    left, right = figure.subplots(1, 2)
    most = (weights.amax(dim=0) - weights.amin(dim=0)).topk(min(LINES, weights.shape[1])).indices
    lines = left.plot(times, weights[:, most], linewidth=0.9, alpha=0.8)
    count = weights.shape[1]
    if count <= LEGEND:
        left.legend(lines, [rf"$\theta_{{{place + 1}}}$" for place in most.tolist()], fontsize=8)
    some = f"the {len(most)} of {count:,} weights that change most" if len(most) < count else f"all {count} weights"
    left.set_title(some, fontsize=10)
    right.plot(times, (weights - weights[0]).norm(dim=1), color=style.BLUE, label=r"$|\theta(t) - \theta(0)|$")
    right.axhline(float(weights[0].norm()), color=style.GREY, linestyle="--", label=r"$|\theta(0)|$")
    right.set_title("distance of the weights from the first", fontsize=10)
    right.set_ylim(bottom=0)
    right.legend(fontsize=8)
    for axes in (left, right):
        axes.set_xlabel("depth $t$")
        axes.grid(alpha=0.3)
    return figure


def draw_end_times(ends: Tensor, y0: Tensor, *, bounds: tuple[float, float]) -> Figure:
    """End times (samples,): over a state of one coordinate, as colours over one of two, else as a histogram.

    A bound close to the end times is drawn as a dashed line.
    """
    ends, y0 = ends.detach().cpu().double(), y0.detach().flatten(1).cpu().double()
    figure = style.figure(5.6, 4.0)
    axes = figure.subplots()
    if y0.shape[1] == 2:
        points = axes.scatter(y0[:, 0], y0[:, 1], c=ends, s=12, cmap="viridis")
        figure.colorbar(points, ax=axes, label="end time", shrink=0.7)
        axes.set(xlabel="$y_1(0)$", ylabel="$y_2(0)$", aspect="equal")
    elif y0.shape[1] == 1:
        axes.scatter(y0[:, 0], ends, s=10, color=style.BLUE)
        axes.set(xlabel="$y(0)$", ylabel="end time")
        _mark(axes.axhline, ends, bounds)
    else:
        axes.hist(ends.numpy(), bins=40, color=style.BLUE)
        axes.set(xlabel="end time", ylabel="samples")
        _mark(axes.axvline, ends, bounds)
    axes.set_title(f"end times that were learned, {float(ends.mean()):.3g} in the mean", fontsize=10)
    axes.grid(alpha=0.3)
    return figure


def draw_layers(moved: Tensor, distances: Tensor, spectra: Tensor) -> Figure:
    """How far each layer moves states, how far its weights are from the previous layer's, and its eigenvalues.

    Args:
        moved: (layers,), means over samples.
        distances: (layers - 1,), relative distances between the weights of neighbouring layers.
        spectra: (layers, values), complex, eigenvalues of the Jacobians of the layers' increments.
    """
    from matplotlib import colormaps

    figure = style.figure(10.0, 3.4)
    left, middle, right = figure.subplots(1, 3)
    layers = range(1, len(moved) + 1)
    left.bar(layers, moved.double().numpy(), color=style.BLUE)
    left.set_title(r"$|x_{k+1} - x_k|$, mean over samples", fontsize=10)
    middle.bar([k + 0.5 for k in layers[:-1]], distances.double().numpy(), color=style.BLUE)
    middle.set_xlim(0.5, len(moved) + 0.5)
    middle.set_title(r"$|\theta_{k+1} - \theta_k| / |\theta_k|$", fontsize=10)
    for axes in (left, middle):
        axes.set_xlabel("layer $k$")
        style.count_in_whole_numbers(axes.xaxis)
    colours = colormaps["viridis"](torch.linspace(0, 0.9, len(spectra)).numpy())
    for k, (values, colour) in enumerate(zip(spectra, colours, strict=True), start=1):
        some = len(spectra) <= LEGEND or k in (1, len(spectra))
        right.scatter(values.real, values.imag, s=6, color=colour, label=f"layer {k}" if some else None)
    right.axvline(0, color=style.GREY, linewidth=0.8)
    right.set_title("eigenvalues of increments", fontsize=10)
    right.set(xlabel="real part", ylabel="imaginary part")
    right.legend(fontsize=8)
    return figure


def draw_sweeps(residuals: Tensor) -> Figure:
    """How far each sweep of an iteration moves the state of each layer.

    Args:
        residuals: (layers, sweeps), relative to the state; NaN if a layer has fewer sweeps.
    """
    figure = style.figure(5.6, 3.6)
    axes = figure.subplots()
    layers = range(1, len(residuals) + 1)
    for sweep, values in enumerate(residuals.cpu().T, start=1):
        axes.semilogy(layers, values.numpy(), marker="o", label=f"sweep {sweep}" if sweep <= LEGEND else None)
    axes.set_title("$|x_i - x_{i-1}| / |x_i|$ of sweep $i$, mean over samples", fontsize=10)
    axes.set_xlabel("block")
    style.count_in_whole_numbers(axes.xaxis)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure


def _mark(line: Callable[..., object], ends: Tensor, bounds: tuple[float, float]) -> None:
    """A dashed line at each bound that is no further from the end times than their range is wide."""
    low, high = float(ends.min()), float(ends.max())
    reach = max(high - low, 0.1)
    for bound in bounds:
        if low - reach <= bound <= high + reach:
            line(bound, color=style.GREY, linestyle="--")
