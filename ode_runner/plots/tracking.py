"""States that follow a moving point in the plane."""

import math

import torch
from torch import Tensor

from ode_runner.plots import style
from ode_runner.plots.animation import Animation
from ode_runner.plots.figure_types import Axes, Figure
from ode_runner.types import Times, Trajectory

PATHS = 12  # in a figure; one with more would be unreadable
FAR = 3.0  # the axes reach at most so far beyond the targets


def draw_tracking(states: Trajectory, targets: Tensor, ts: Times, *, tested: int) -> Figure:
    """Paths in the plane in the first and last period, one coordinate over time, and the distance from the targets.

    Args:
        states: (times, samples, 2), of the first of `tested` samples.
        targets: (times, 2).
        ts: whole periods of length 1, from 0 on; the first period is that of training.
        tested: size of the test split.
    """
    measured = style.part_of(states.shape[1], tested, "samples")
    followed = style.part_of(min(PATHS, states.shape[1]), tested, "samples")
    states, targets, ts = states.cpu(), targets.cpu(), ts.cpu()
    figure = style.figure(11, 4.6)
    grid = figure.add_gridspec(2, 2, width_ratios=(1, 1.6))
    _draw_plane(
        figure.add_subplot(grid[:, 0]),
        states,
        targets,
        ts,
        title=f"{style.titled('Dots: initial states', followed)}\n{_leaving(states[:, :PATHS], targets)}".strip(),
    )
    above = figure.add_subplot(grid[0, 1])
    below = figure.add_subplot(grid[1, 1], sharex=above)
    for axes in (above, below):
        axes.axvspan(0, 1, color=style.SKY, alpha=0.15, linewidth=0)
        axes.grid(alpha=0.3)
    above.plot(ts, states[:, :PATHS, 0], color=style.VERMILION, linewidth=0.8, alpha=0.6)
    above.plot(ts, targets[:, 0], color="black", linewidth=1.2)
    above.set(ylabel="$y_1$", ylim=_within(states[..., 0], targets[:, 0]))
    title = style.titled("Black: the point; orange: states; shaded: training", followed)
    above.set_title(title, fontsize=10)
    apart = (states - targets[:, None]).norm(dim=-1)
    low, middle, high = apart.quantile(torch.tensor([0.1, 0.5, 0.9], dtype=apart.dtype), dim=1)
    below.fill_between(ts, low, high, color=style.VERMILION, alpha=0.25, linewidth=0)
    below.plot(ts, middle, color=style.VERMILION)
    below.set(yscale="log", xlabel="t", ylabel="distance")
    below.set_title(style.titled("Median and middle 80 % of the distance", measured), fontsize=10)
    return figure


def animate_tracking(states: Trajectory, targets: Tensor, ts: Times, *, tested: int) -> Animation:
    """States (times, samples, 2) and the point (times, 2) that they should follow; a frame for each time.

    The samples are the first of `tested` test samples.
    """
    states, targets, ts = states.cpu(), targets.cpu(), ts.cpu()
    figure = style.figure(4.4, 4.4)
    axes = figure.subplots()
    angles = torch.linspace(0, math.tau, 200)  # of the unit circle, on which the point moves
    axes.plot(angles.cos(), angles.sin(), color=style.GREY, linewidth=0.6)
    [dots] = axes.plot([], [], "o", color=style.VERMILION, markersize=3, alpha=0.6)
    [point] = axes.plot([], [], "o", color="black", markersize=7, fillstyle="none")
    x, y = _within(states[..., 0], targets[:, 0]), _within(states[..., 1], targets[:, 1])
    axes.set(xlim=x, ylim=y, aspect="equal", xlabel="$y_1$", ylabel="$y_2$")
    some = style.part_of(states.shape[1], tested, "samples")
    figure.suptitle(style.titled(some, _leaving(states, targets)), fontsize=9)

    def show(i: int) -> None:
        dots.set_data(*states[i].T)
        point.set_data(*targets[i][:, None])
        axes.set_title(f"Point (ring), states at t = {ts[i]:.2f} (trained to 1)", fontsize=10)

    return Animation(figure=figure, show=show, frames=len(ts), per_second=12)


def _draw_plane(axes: Axes, states: Trajectory, targets: Tensor, ts: Times, *, title: str) -> None:
    axes.plot(*targets.T, color="black", linewidth=1.2, label="the point")
    last = max(1, round(float(ts[-1])))
    for period, colour in ((1, style.BLUE), (last, style.VERMILION))[: 1 if last == 1 else 2]:
        chosen = states[(ts >= period - 1) & (ts <= period), :PATHS]
        lines = axes.plot(chosen[..., 0], chosen[..., 1], color=colour, linewidth=0.8, alpha=0.7)
        lines[0].set_label(f"period {period}")
    axes.plot(*states[0, :PATHS].T, "o", color=style.BLUE, markersize=3)
    x, y = _within(states[..., 0], targets[:, 0]), _within(states[..., 1], targets[:, 1])
    axes.set(xlim=x, ylim=y, aspect="equal", xlabel="$y_1$", ylabel="$y_2$")
    axes.set_title(title, fontsize=10)
    axes.legend(fontsize=8, loc="upper right")


def _within(values: Tensor, targets: Tensor) -> tuple[float, float]:
    """The range of values and targets, at most FAR beyond that of the targets, with a margin."""
    least, most = float(targets.min()) - FAR, float(targets.max()) + FAR
    near = values[values.isfinite()].clamp(least, most)
    low, high = min(float(near.min()), float(targets.min())), max(float(near.max()), float(targets.max()))
    return low - 0.1, high + 0.1


def _leaving(states: Trajectory, targets: Tensor) -> str:
    """How many samples have states beyond axes that are `_within` FAR of the targets; "" if none."""
    least, most = targets.amin(dim=0) - FAR, targets.amax(dim=0) + FAR
    inside = ((states >= least) & (states <= most)).all(dim=-1).all(dim=0)
    count = int((~inside).sum())
    return f"{count} of {len(inside)} leave the axes" if count else ""
