"""Trajectories in state space beside their references; the layout depends on the number of coordinates."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from ode_runner.field import VectorField
from ode_runner.plots import style
from ode_runner.plots.figure_types import Axes, Figure
from ode_runner.types import Times, Trajectory

MOST_PLANES = 9  # for a state with many coordinates
STREAMS = ("#DDDDDD", "#555555")  # slow, fast; drawn behind the paths

Slopes = Callable[[Tensor], Tensor]  # the field at points (points, 2)


def draw_phase_portrait(
    values: Trajectory,
    references: Trajectory,
    *,
    ts: Times,
    fields: Mapping[str, VectorField],
    names: Sequence[str],
    label: str,
) -> Figure:
    """The model's trajectories (time, samples, state) over their references at `ts`; the first sample stands out.

    One coordinate is drawn against time, and two in their plane, over the streamlines of each field. Three are drawn
    in space and in their three planes; more, in the planes of neighbouring coordinates.

    Args:
        fields: by title: the true field, then the learned field, if there is one.
        names: of the coordinates, as LaTeX.
        label: of the model's trajectories.
    """
    values, references = (x.to("cpu", torch.float64) for x in (values, references))
    paths = _Paths(references, values, label)
    match len(names):
        case 1:
            return _draw_line(paths, ts.to("cpu", torch.float64), fields, names[0])
        case 2:
            return _draw_plane(paths, fields, names)
        case 3:
            return _draw_space(paths, names)
        case _:
            return _draw_planes(paths, names)


class _Paths(NamedTuple):
    """Trajectories (time, samples, state)."""

    references: Trajectory
    values: Trajectory
    label: str  # legend label of the values

    def among(self, pair: Sequence[int]) -> "_Paths":
        """The paths in two of the coordinates."""
        return _Paths(self.references[..., pair], self.values[..., pair], self.label)


def _draw_line(paths: _Paths, ts: Times, fields: Mapping[str, VectorField], name: str) -> Figure:
    clock = ts[:, None, None].expand(len(ts), paths.references.shape[1], 1)
    references, values = (torch.cat([clock, x], -1) for x in (paths.references, paths.values))
    in_time = _Paths(references, values, paths.label)

    def with_time(field: VectorField) -> Slopes:
        return lambda points: torch.cat([torch.ones_like(points[:, 1:]), _slopes(field)(points[:, 1:])], -1)

    figure = style.figure(5.6 * len(fields) + 0.6, 4.4)
    _draw_fields(figure, in_time, {title: with_time(field) for title, field in fields.items()}, ("t", f"${name}$"))
    figure.suptitle("Solutions; dots: initial states", fontsize=11)
    return _with_legend(figure)


def _draw_plane(paths: _Paths, fields: Mapping[str, VectorField], names: Sequence[str]) -> Figure:
    (left, below), (right, above) = _frame(paths)
    tallness = (above - below) / (right - left)
    figure = style.figure(5.2 * len(fields) + 1.2, 1.6 + min(8.0, max(2.4, 4.6 * tallness)))
    slopes = {title: _slopes(field) for title, field in fields.items()}
    for axes in _draw_fields(figure, paths, slopes, (f"${names[0]}$", f"${names[1]}$")):
        axes.set_aspect("equal", adjustable="box")
    figure.suptitle("Phase portrait; dots: initial states", fontsize=11)
    return _with_legend(figure)


def _slopes(field: VectorField) -> Slopes:
    """The values of an autonomous field at points (points, state), evaluated in the precision of its parameters."""
    own = next(iter(field.parameters()), torch.zeros((), dtype=torch.float64))
    return lambda points: field(own.new_zeros(()), points.to(own)).detach().to("cpu", torch.float64)


def _draw_fields(figure: Figure, paths: _Paths, fields: Mapping[str, Slopes], labels: tuple[str, str]) -> list[Axes]:
    """A panel with the streamlines of each field and the paths on them; limits and colour scale are shared.

    With two fields, the references are drawn on the true field and the model's paths on the learned one.
    """
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    colours = LinearSegmentedColormap.from_list("streams", STREAMS)
    panels = list(figure.subplots(1, len(fields), sharex=True, sharey=True, squeeze=False)[0])
    low, high = _frame(paths)
    columns, rows = (torch.linspace(low[i], high[i], 30, dtype=torch.float64) for i in (0, 1))
    grid = torch.cartesian_prod(columns, rows)
    slopes = {title: field(grid).reshape(30, 30, 2).transpose(0, 1) for title, field in fields.items()}
    fastest = max(float(found.norm(dim=-1).max()) for found in slopes.values())
    drawn = [_draw_paths] if len(panels) == 1 else [_draw_references, _draw_values]
    for axes, (title, found), draw in zip(panels, slopes.items(), drawn, strict=True):
        streams = axes.streamplot(
            columns.numpy(), rows.numpy(), found[..., 0].numpy(), found[..., 1].numpy(),
            color=found.norm(dim=-1).numpy(), cmap=colours, norm=Normalize(0, fastest or 1.0),
            linewidth=0.9, arrowsize=0.8, density=0.9, zorder=1,
        )  # fmt: skip
        draw(axes, paths)
        axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), xlabel=labels[0])
        axes.set_title(f"the {title}, in grey", fontsize=10)
    panels[0].set_ylabel(labels[1])
    figure.colorbar(streams.lines, ax=panels, label="speed of the field", shrink=0.7)
    return panels


def _draw_space(paths: _Paths, names: Sequence[str]) -> Figure:
    figure = style.figure(9.4, 8.4)
    space = figure.add_subplot(2, 2, 1, projection="3d")
    low, high = _frame(paths)
    _draw_paths(space, paths)
    space.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), zlim=(low[2], high[2]))
    space.set(xlabel=f"${names[0]}$", ylabel=f"${names[1]}$", zlabel=f"${names[2]}$")
    for place, (i, j) in enumerate(combinations(range(3), 2), start=2):
        _draw_projection(figure.add_subplot(2, 2, place), paths, names, (i, j))
    figure.suptitle("Phase portrait and its three planes; dots: initial states", fontsize=10)
    return _with_legend(figure)


def _draw_planes(paths: _Paths, names: Sequence[str]) -> Figure:
    pairs = list(pairwise(range(len(names))))
    shown = pairs[:MOST_PLANES]
    columns = math.ceil(math.sqrt(len(shown)))
    rows = -(-len(shown) // columns)
    figure = style.figure(3.4 * columns, 3.2 * rows + 0.8)
    for place, pair in enumerate(shown, start=1):
        _draw_projection(figure.add_subplot(rows, columns, place), paths, names, pair)
    some = f" (the first {len(shown)} of {len(pairs)})" if len(shown) < len(pairs) else ""
    figure.suptitle(f"Planes of neighbouring coordinates{some}; dots: initial states", fontsize=10)
    return _with_legend(figure)


def _draw_projection(axes: Axes, paths: _Paths, names: Sequence[str], pair: tuple[int, int]) -> None:
    shown = paths.among(pair)
    low, high = _frame(shown)
    _draw_paths(axes, shown)
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), xlabel=f"${names[pair[0]]}$", ylabel=f"${names[pair[1]]}$")
    axes.grid(alpha=0.3)


def _draw_paths(axes: Axes, paths: _Paths) -> None:
    """Draws in as many dimensions as the axes have."""
    _draw_references(axes, paths)
    _draw_values(axes, paths)


def _draw_references(axes: Axes, paths: _Paths) -> None:
    for sample, path in enumerate(paths.references.unbind(1)):
        width, label = (1.6, "reference") if sample == 0 else (0.7, None)
        axes.plot(*path.T, color="black", linewidth=width, zorder=3, label=label)
    axes.plot(*paths.references[0].T, "o", color="black", markersize=3, zorder=6)


def _draw_values(axes: Axes, paths: _Paths) -> None:
    first, *others = paths.values.unbind(1)
    for sample, path in enumerate(others):
        label = f"{paths.label}, others" if sample == 0 else None
        axes.plot(*path.T, "--", color=style.BLUE, linewidth=1.0, zorder=4, label=label)
    own = f"{paths.label}, the trajectory of the other pictures" if others else paths.label
    axes.plot(*first.T, "--", color=style.VERMILION, linewidth=1.8, zorder=5, label=own)
    axes.plot(*paths.values[0].T, "o", color="black", markersize=3, zorder=6)


def _frame(paths: _Paths) -> tuple[list[float], list[float]]:
    """Limits: the range of the references, extended to that of the values by at most half of it; never of width 0."""
    points, others = paths.references.flatten(0, 1), paths.values.flatten(0, 1)
    low, high = points.amin(0), points.amax(0)
    least, most = low - (high - low) / 2, high + (high - low) / 2
    low, high = others.amin(0).clamp(least, low), others.amax(0).clamp(high, most)
    margin = 0.05 * (high - low)
    margin = torch.where(margin > 0, margin, 0.05 * high.abs().clamp_min(1))  # a constant coordinate
    return (low - margin).tolist(), (high + margin).tolist()


def _with_legend(figure: Figure) -> Figure:
    """One legend for all panels, below them."""
    pairs = [pair for axes in figure.axes for pair in zip(*axes.get_legend_handles_labels(), strict=True)]
    handles = {label: handle for handle, label in pairs}
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", fontsize=8, ncols=3)
    return figure
