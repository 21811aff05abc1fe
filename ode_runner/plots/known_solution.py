"""A numerical solution beside the true one, and its error."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ode_runner.plots import style
from ode_runner.plots.figure_types import Figure
from ode_runner.types import Times


def draw_known_solution(
    ts: Times,
    true: Tensor,
    found: Tensor,
    *,
    names: Sequence[str],
    log: bool,
    seen: tuple[Times, Tensor] | None = None,
) -> Figure:
    """States (time, coordinate), one coordinate above the other, and their distance. `log`: logarithmic time axis.

    `seen`: times and values of observations, in the same shapes.
    """
    figure = style.figure(8.5, 1.7 * len(names) + 2.2)
    *rows, last = figure.subplots(len(names) + 1, 1, sharex=True, squeeze=False)[:, 0]
    shown = slice(1, None) if log else slice(None)  # t = 0 has no place on a logarithmic axis
    for row, (axes, name) in enumerate(zip(rows, names, strict=True)):
        axes.plot(ts[shown], true[shown, row], color="black", linewidth=1.2, label="true")
        axes.plot(ts[shown], found[shown, row], "--", color=style.VERMILION, linewidth=1.6, label="solved")
        if seen is not None:
            axes.plot(seen[0][shown], seen[1][shown, row], "o", color=style.BLUE, markersize=3, label="observed")
        axes.set_ylabel(f"${name}$")
        axes.grid(alpha=0.3)
    distance = (
        (found - true).norm(dim=1).clamp_min(torch.finfo(true.dtype).eps / 16)
    )  # a logarithmic axis has no 0 either
    last.plot(ts[1:], distance[1:], color=style.VERMILION)
    last.set(yscale="log", ylabel="distance", xlabel="t")
    last.grid(alpha=0.3)
    if log:
        last.set_xscale("log")
    figure.legend(*rows[0].get_legend_handles_labels(), loc="outside lower right", fontsize=8, ncols=3)
    return figure
