"""Solutions in time and in the phase plane, beside their references."""

from collections.abc import Callable, Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ode_runner.field import VectorField
from ode_runner.plots import style
from ode_runner.tasks.base import Batch
from ode_runner.types import Trajectory


def draw_time_series(portrait: Batch, values: Trajectory, *, names: Sequence[str], horizon: float) -> Figure:
    """The first sample of `portrait` and of the model's `values`, coordinate by coordinate; observed span shaded."""
    figure = style.figure(8.5, 1.9 * len(names) + 0.5)
    ts = portrait.ts.cpu()
    for row, (axes, name) in enumerate(zip(figure.subplots(len(names), 1, sharex=True), names, strict=True)):
        axes.axvspan(0, horizon, color=style.SKY, alpha=0.15, linewidth=0)
        axes.plot(ts, portrait.targets[:, 0, row].cpu(), color="black", linewidth=1.2, label="reference")
        axes.plot(ts, values[:, 0, row].cpu(), "--", color=style.VERMILION, linewidth=1.6, label="model")
        axes.set_ylabel(f"${name}$")
        axes.grid(alpha=0.3)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower right", fontsize=8, ncols=2)
    figure.axes[0].set_title(f"From {_vector(portrait.inputs[0])}; shaded: the span of the training data", fontsize=10)
    figure.axes[-1].set_xlabel("t")
    return figure


def draw_phase_portrait(
    values: Trajectory, references: Trajectory, *, field: VectorField, names: Sequence[str]
) -> Figure:
    """The model's trajectories over their references, on the true field's streamlines; the first stands out."""
    figure = style.figure(6.2, 5.6)
    axes = figure.subplots()
    low, high = _frame(references, values)
    _draw_streams(axes, field, low, high)
    for sample in range(values.shape[1] - 1, -1, -1):
        first = sample == 0
        axes.plot(
            *references[:, sample].T.cpu(), color="black", linewidth=1.6 if first else 0.7, zorder=3,
            label="reference" if first else None,
        )  # fmt: skip
        axes.plot(
            *values[:, sample].T.cpu(), "--", color=style.VERMILION if first else style.BLUE,
            linewidth=1.8 if first else 0.7, zorder=4 if first else 3,
            label="model, the trajectory of the other pictures" if first else "model" if sample == 1 else None,
        )  # fmt: skip
    axes.plot(*references[0].T.cpu(), "o", color="black", markersize=3, zorder=5)
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), xlabel=f"${names[0]}$", ylabel=f"${names[1]}$")
    axes.set_aspect("equal", adjustable="box")
    axes.set_title("Phase portrait; dots: where each begins; grey: the true field", fontsize=10)
    figure.legend(loc="outside lower center", fontsize=8, ncols=3)
    return figure


def draw_errors(
    portrait: Batch, values: Trajectory, *, invariant: Callable[[Tensor], Tensor | None], horizon: float
) -> Figure:
    """Distance from the reference and drift of the invariant along the first sample, both from the second time on."""
    conserved = invariant(values[:, 0])
    figure = style.figure(8.5, 2.4 if conserved is None else 4.4)
    grid = figure.subplots(1 if conserved is None else 2, 1, sharex=True, squeeze=False)[:, 0]
    ts = portrait.ts.cpu()
    distance = (values - portrait.targets)[:, 0].norm(dim=-1).cpu()
    lines = [("distance to reference", distance)]
    if conserved is not None:
        lines.append(("drift of the invariant", (conserved - conserved[0]).abs().cpu()))
    for axes, (label, line) in zip(grid, lines, strict=True):
        axes.axvspan(0, horizon, color=style.SKY, alpha=0.15, linewidth=0)
        axes.plot(ts[1:], line[1:].clamp_min(torch.finfo(line.dtype).tiny), color=style.VERMILION)
        axes.set(yscale="log", ylabel=label)
        axes.grid(alpha=0.3)
    grid[0].set_title(f"From {_vector(portrait.inputs[0])}; shaded: the span of the training data", fontsize=10)
    grid[-1].set_xlabel("t")
    return figure


def _draw_streams(axes: Axes, field: VectorField, low: list[float], high: list[float]) -> None:
    columns, rows = (torch.linspace(low[i], high[i], 30, dtype=torch.float64) for i in (0, 1))
    points = torch.cartesian_prod(columns, rows)
    slopes = field(points.new_zeros(()), points).reshape(30, 30, 2).transpose(0, 1)
    axes.streamplot(
        columns.numpy(), rows.numpy(), slopes[..., 0].numpy(), slopes[..., 1].numpy(), color="#CCCCCC", linewidth=0.6,
        arrowsize=0.7, density=0.9, zorder=1,
    )  # fmt: skip


def _frame(references: Trajectory, values: Trajectory) -> tuple[list[float], list[float]]:
    """The references' extent, stretched for the model's by half of it at most."""
    points, others = references.flatten(0, 1).cpu(), values.flatten(0, 1).to(references.dtype).cpu()
    low, high = points.amin(0), points.amax(0)
    least, most = low - (high - low) / 2, high + (high - low) / 2
    low, high = others.amin(0).clamp(least, low), others.amax(0).clamp(high, most)
    margin = 0.05 * (high - low)
    return (low - margin).tolist(), (high + margin).tolist()


def _vector(y: Tensor) -> str:
    return f"({', '.join(f'{value:g}' for value in y.tolist())})"
