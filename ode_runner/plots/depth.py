"""What models learn about depth: weights that change on the way, and where each sample stops."""

from collections.abc import Callable

from matplotlib.figure import Figure
from torch import Tensor

from ode_runner.plots import style

LINES = 24  # weights that are drawn, those that change most


def draw_weights(times: Tensor, weights: Tensor) -> Figure:
    """Weights (times, weights) over depth: some of them, and how far all are from those at the first time.

    Args:
        times: (times,); two equal ones beside each other make a jump.
    """
    times, weights = times.detach().cpu().double(), weights.detach().cpu().double()
    figure = style.figure(9.0, 3.6)
    left, right = figure.subplots(1, 2)
    most = (weights.amax(dim=0) - weights.amin(dim=0)).topk(min(LINES, weights.shape[1])).indices
    left.plot(times, weights[:, most], linewidth=0.9, alpha=0.8)
    left.set_title(f"the {len(most)} of {weights.shape[1]:,} weights that change most", fontsize=10)
    right.plot(times, (weights - weights[0]).norm(dim=1), color=style.BLUE, label=r"$|\theta(t) - \theta(0)|$")
    right.axhline(float(weights[0].norm()), color=style.GREY, linestyle="--", label=r"$|\theta(0)|$")
    right.set_title("all weights", fontsize=10)
    right.set_ylim(bottom=0)
    right.legend(fontsize=8)
    for axes in (left, right):
        axes.set_xlabel("depth $t$")
        axes.grid(alpha=0.3)
    return figure


def draw_end_times(ends: Tensor, y0: Tensor, *, bounds: tuple[float, float]) -> Figure:
    """End times (samples,): over the state where that is a line, in colour where it is a plane, else how often each is.

    Bounds that lie near are dashed.
    """
    ends, y0 = ends.detach().cpu().double(), y0.detach().flatten(1).cpu().double()
    figure = style.figure(5.6, 4.0)
    axes = figure.subplots()
    if y0.shape[1] == 2:
        points = axes.scatter(y0[:, 0], y0[:, 1], c=ends, s=12, cmap="viridis")
        figure.colorbar(points, ax=axes, label="end time")
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


def _mark(line: Callable[..., object], ends: Tensor, bounds: tuple[float, float]) -> None:
    """A dashed line at each bound that is no further from the end times than they are spread."""
    low, high = float(ends.min()), float(ends.max())
    reach = max(high - low, 0.1)
    for bound in bounds:
        if low - reach <= bound <= high + reach:
            line(bound, color=style.GREY, linestyle="--")
