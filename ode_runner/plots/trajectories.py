"""Solutions over time beside their references."""

from collections.abc import Callable, Mapping, Sequence
from itertools import product

import torch
from torch import Tensor

from ode_runner.batch import Batch
from ode_runner.plots import style
from ode_runner.plots.figure_types import Figure
from ode_runner.types import Times, Trajectory

MOST_COORDINATES = 8  # a figure with more would be unreadable
MOST_SAMPLES = 10


def draw_time_series(
    portrait: Batch, values: Trajectory, *, names: Sequence[str], horizon: float, label: str
) -> Figure:
    """The first sample of `portrait` and of `values`, coordinate by coordinate; the training span is shaded."""
    shown = names[:MOST_COORDINATES]
    figure = style.figure(8.5, 1.9 * len(shown) + 0.5 + 0.4 * (len(shown) == 1))
    ts = portrait.ts.cpu()
    grid = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
    for row, (axes, name) in enumerate(zip(grid, shown, strict=True)):
        axes.axvspan(0, horizon, color=style.SKY, alpha=0.15, linewidth=0)
        axes.plot(ts, portrait.targets[:, 0, row].cpu(), color="black", linewidth=1.2, label="reference")
        axes.plot(ts, values[:, 0, row].cpu(), "--", color=style.VERMILION, linewidth=1.6, label=label)
        axes.set_ylabel(f"${name}$")
        axes.grid(alpha=0.3)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower right", fontsize=8, ncols=2)
    some = style.part_of(len(shown), len(names), "coordinates")
    title = [f"From {_vector(portrait.inputs[0])}", "shaded: the span of the training data", *filter(None, [some])]
    grid[0].set_title("; ".join(title), fontsize=10)
    grid[-1].set_xlabel("t")
    return figure


def draw_observations(
    times: Tensor,
    observed: Tensor,
    ts: Times,
    solutions: Mapping[str, Trajectory],
    *,
    names: Sequence[str],
    trajectories: int,
) -> Figure:
    """Observed trajectories, as dots, beside two solutions by name: the true one and the model's.

    Args:
        times, observed: (sample, point) and (sample, point, coordinate), of the observations.
        ts: (time,), of the solutions (time, sample, coordinate).
        names: of the coordinates; the first few are shown.
        trajectories: size of the training split, of which these are the first.
    """
    shown, samples = names[:MOST_COORDINATES], len(times)
    figure = style.figure(max(6.0, 3.6 * samples + 0.8), 1.9 * len(shown) + 1.0)
    grid = figure.subplots(len(shown), samples, sharex=True, sharey="row", squeeze=False)
    looks = (("black", "-", 1.2), (style.VERMILION, "--", 1.6))
    for row, sample in product(range(len(shown)), range(samples)):
        axes = grid[row, sample]
        for (label, states), (colour, line, width) in zip(solutions.items(), looks, strict=True):
            axes.plot(ts.cpu(), states[:, sample, row].cpu(), line, color=colour, linewidth=width, label=label)
        dots = observed[sample, :, row].cpu()
        axes.plot(times[sample].cpu(), dots, "o", color=style.SKY, markersize=3.5, zorder=1, label="observed")
        axes.grid(alpha=0.3)
        axes.set_ylabel(f"${shown[row]}$" if sample == 0 else "")
    for sample in range(samples):
        grid[0, sample].set_title(f"trajectory {sample + 1}", fontsize=10)
        grid[-1, sample].set_xlabel("t")
    what, some = "trajectories of training", style.part_of(len(shown), len(names), "coordinates")
    title = (style.part_of(samples, trajectories, what) or what).capitalize()
    figure.suptitle("; ".join(filter(None, [title, some])), fontsize=11)
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", fontsize=9, ncols=3)
    return figure


def draw_predictions(ts: Times, values: Trajectory, names: Sequence[str]) -> Figure:
    """A model's outputs for several samples (time, sample, coordinate), by coordinate; NaN leaves a gap."""
    shown, samples = names[:MOST_COORDINATES], min(MOST_SAMPLES, values.shape[1])
    figure = style.figure(8.5, 1.9 * len(shown) + 0.6)
    grid = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
    for row, (axes, name) in enumerate(zip(grid, shown, strict=True)):
        for sample in range(samples):
            colour = style.CLASSES[sample % len(style.CLASSES)]
            mark = "-" if sample < len(style.CLASSES) else "--"
            axes.plot(ts.cpu(), values[:, sample, row].cpu(), mark, color=colour, linewidth=1.4, label=str(sample))
        axes.set_ylabel(f"${name}$")
        axes.grid(alpha=0.3)
    parts = style.part_of(samples, values.shape[1], "samples"), style.part_of(len(shown), len(names), "coordinates")
    grid[0].set_title(style.titled("Predictions of the model", *parts), fontsize=10)
    grid[-1].set_xlabel("t")
    if values.shape[1] > 1:
        handles, labels = grid[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right upper", title="sample", fontsize=8)
    return figure


def draw_errors(
    portrait: Batch, values: Trajectory, *, invariant: tuple[Callable[[Tensor], Tensor | None], str], horizon: float
) -> Figure:
    """Distance from the reference and drift of the invariant along the first sample, both from the second time on.

    `invariant`: a function of states, and its name.
    """
    conserved = invariant[0](values[:, 0])
    figure = style.figure(8.5, 2.4 if conserved is None else 4.4)
    grid = figure.subplots(1 if conserved is None else 2, 1, sharex=True, squeeze=False)[:, 0]
    ts = portrait.ts.cpu()
    distance = (values - portrait.targets)[:, 0].norm(dim=-1).cpu()
    lines = [("distance to reference", distance)]
    if conserved is not None:
        lines.append((f"drift of {invariant[1]}", (conserved - conserved[0]).abs().cpu()))
    for axes, (label, line) in zip(grid, lines, strict=True):
        axes.axvspan(0, horizon, color=style.SKY, alpha=0.15, linewidth=0)
        axes.plot(ts[1:], line[1:].clamp_min(torch.finfo(line.dtype).tiny), color=style.VERMILION)
        axes.set(yscale="log", ylabel=label)
        axes.grid(alpha=0.3)
    grid[0].set_title(f"From {_vector(portrait.inputs[0])}; shaded: the span of the training data", fontsize=10)
    grid[-1].set_xlabel("t")
    return figure


def _vector(y: Tensor) -> str:
    """The first few coordinates of a state."""
    more = [] if len(y) <= 4 else ["..."]
    return f"({', '.join([*(f'{value:g}' for value in y[:4].tolist()), *more])})"
