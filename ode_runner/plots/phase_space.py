"""Trajectories in the space of their states, beside their references, drawn by how many coordinates there are."""

import math
from collections.abc import Callable, Sequence
from itertools import combinations, pairwise

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ode_runner.field import VectorField
from ode_runner.plots import style
from ode_runner.types import Times, Trajectory

MOST_PLANES = 9  # of a state with many coordinates


def draw_phase_portrait(
    values: Trajectory, references: Trajectory, *, ts: Times, field: VectorField, names: Sequence[str]
) -> Figure:
    """The model's trajectories (time, samples, state) over their references at `ts`; the first sample stands out.

    One coordinate is drawn against time and two in their plane, both on the true field's streamlines; three in space
    and in their three planes; more in the planes of neighbouring ones.
    """
    values, references = (x.to("cpu", torch.float64) for x in (values, references))
    match len(names):
        case 1:
            return _draw_line(values, references, ts.to("cpu", torch.float64), field, names[0])
        case 2:
            return _draw_plane(values, references, field, names)
        case 3:
            return _draw_space(values, references, names)
        case _:
            return _draw_planes(values, references, names)


def _draw_line(values: Trajectory, references: Trajectory, ts: Times, field: VectorField, name: str) -> Figure:
    figure = style.figure(8.5, 4.2)
    axes = figure.subplots()
    clock = ts[:, None, None].expand(len(ts), references.shape[1], 1)
    references, values = torch.cat([clock, references], -1), torch.cat([clock, values], -1)
    low, high = _frame(references, values)

    def slopes(points: Tensor) -> Tensor:
        return torch.cat([torch.ones_like(points[:, 1:]), field(points.new_zeros(()), points[:, 1:])], -1)

    _draw_streams(axes, slopes, low, high)
    _draw_paths(axes, references, values)
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), xlabel="t", ylabel=f"${name}$")
    axes.set_title("Solutions; dots: where each begins; grey: the true field", fontsize=10)
    return _with_legend(figure, axes)


def _draw_plane(values: Trajectory, references: Trajectory, field: VectorField, names: Sequence[str]) -> Figure:
    figure = style.figure(6.2, 5.6)
    axes = figure.subplots()
    low, high = _frame(references, values)
    _draw_streams(axes, lambda points: field(points.new_zeros(()), points), low, high)
    _draw_paths(axes, references, values)
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), xlabel=f"${names[0]}$", ylabel=f"${names[1]}$")
    axes.set_aspect("equal", adjustable="box")
    axes.set_title("Phase portrait; dots: where each begins; grey: the true field", fontsize=10)
    return _with_legend(figure, axes)


def _draw_space(values: Trajectory, references: Trajectory, names: Sequence[str]) -> Figure:
    figure = style.figure(9.4, 8.4)
    space = figure.add_subplot(2, 2, 1, projection="3d")
    low, high = _frame(references, values)
    _draw_paths(space, references, values)
    space.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), zlim=(low[2], high[2]))
    space.set(xlabel=f"${names[0]}$", ylabel=f"${names[1]}$", zlabel=f"${names[2]}$")
    for place, (i, j) in enumerate(combinations(range(3), 2), start=2):
        _draw_projection(figure.add_subplot(2, 2, place), values, references, names, (i, j))
    figure.suptitle("Phase portrait and its three planes; dots: where each begins", fontsize=10)
    return _with_legend(figure, space)


def _draw_planes(values: Trajectory, references: Trajectory, names: Sequence[str]) -> Figure:
    pairs = list(pairwise(range(len(names))))
    shown = pairs[:MOST_PLANES]
    columns = math.ceil(math.sqrt(len(shown)))
    rows = -(-len(shown) // columns)
    figure = style.figure(3.4 * columns, 3.2 * rows + 0.8)
    for place, pair in enumerate(shown, start=1):
        _draw_projection(figure.add_subplot(rows, columns, place), values, references, names, pair)
    some = f" (the first {len(shown)} of {len(pairs)})" if len(shown) < len(pairs) else ""
    figure.suptitle(f"Planes of neighbouring coordinates{some}; dots: where each begins", fontsize=10)
    return _with_legend(figure, figure.axes[0])


def _draw_projection(
    axes: Axes, values: Trajectory, references: Trajectory, names: Sequence[str], pair: tuple[int, int]
) -> None:
    references, values = references[..., list(pair)], values[..., list(pair)]
    low, high = _frame(references, values)
    _draw_paths(axes, references, values)
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), xlabel=f"${names[pair[0]]}$", ylabel=f"${names[pair[1]]}$")
    axes.grid(alpha=0.3)


def _draw_paths(axes: Axes, references: Trajectory, values: Trajectory) -> None:
    """In as many coordinates as the states and the axes have."""
    for sample in range(values.shape[1] - 1, -1, -1):
        first = sample == 0
        axes.plot(
            *references[:, sample].T, color="black", linewidth=1.6 if first else 0.7, zorder=3,
            label="reference" if first else None,
        )  # fmt: skip
        axes.plot(
            *values[:, sample].T, "--", color=style.VERMILION if first else style.BLUE,
            linewidth=1.8 if first else 0.7, zorder=4 if first else 3,
            label="model, the trajectory of the other pictures" if first else "model" if sample == 1 else None,
        )  # fmt: skip
    axes.plot(*references[0].T, "o", color="black", markersize=3, zorder=5)


def _draw_streams(axes: Axes, field: Callable[[Tensor], Tensor], low: list[float], high: list[float]) -> None:
    """Of a field of points (points, 2)."""
    columns, rows = (torch.linspace(low[i], high[i], 30, dtype=torch.float64) for i in (0, 1))
    slopes = field(torch.cartesian_prod(columns, rows)).reshape(30, 30, 2).transpose(0, 1)
    axes.streamplot(
        columns.numpy(), rows.numpy(), slopes[..., 0].numpy(), slopes[..., 1].numpy(), color="#CCCCCC", linewidth=0.6,
        arrowsize=0.7, density=0.9, zorder=1,
    )  # fmt: skip


def _frame(references: Trajectory, values: Trajectory) -> tuple[list[float], list[float]]:
    """The references' extent, stretched for the model's by half of it at most; never of no width."""
    points, others = references.flatten(0, 1), values.flatten(0, 1)
    low, high = points.amin(0), points.amax(0)
    least, most = low - (high - low) / 2, high + (high - low) / 2
    low, high = others.amin(0).clamp(least, low), others.amax(0).clamp(high, most)
    margin = 0.05 * (high - low)
    margin = torch.where(margin > 0, margin, 0.05 * high.abs().clamp_min(1))  # a coordinate that stands still
    return (low - margin).tolist(), (high + margin).tolist()


def _with_legend(figure: Figure, axes: Axes) -> Figure:
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", fontsize=8, ncols=3)
    return figure
