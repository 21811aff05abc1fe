"""A solution with events, at which it may jump, beside the true solution."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ode_runner.event import Events
from ode_runner.plots import style
from ode_runner.plots.figure_types import Axes, Figure
from ode_runner.types import Times, Trajectory


def draw_events(
    ts: Times,
    true: Trajectory,
    true_events: Events,
    found: Trajectory,
    found_events: Events,
    *,
    observed: tuple[Times, Tensor],
    names: Sequence[str],
    levels: Mapping[str, float],
) -> Figure:
    """The first sample of both solutions, coordinate by coordinate up to the last event; events are marked.

    Args:
        ts: increasing.
        true, found: (time, batch, coordinate).
        true_events, found_events: the events of these solutions.
        observed: times (time,) and values (time, coordinate) of observations of this sample; NaN: not observed.
        names: of the coordinates, as LaTeX.
        levels: values of the first coordinate at which events occur, by name.
    """
    figure = style.figure(8.5, 1.9 * len(names) + 0.7)
    rows = figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
    both = (
        ("true", true, true_events, "black", "-", 0.0),
        ("model", found, found_events, style.VERMILION, "--", 0.06),
    )
    for row, (axes, name) in enumerate(zip(rows, names, strict=True)):
        for label, states, events, colour, line, base in both:
            before = events.valid[:, 0].cpu()
            shown = torch.where(before, states[:, 0, row].cpu().double(), torch.nan)
            axes.plot(ts.cpu(), shown, line, color=colour, linewidth=1.4, label=label)
            _mark_events(axes, events.times[:, 0].cpu(), colour, base)
        seen = [x.cpu() for x in observed]
        axes.plot(seen[0], seen[1][:, row], "o", color=style.SKY, markersize=3.5, zorder=1, label="observed")
        axes.set_ylabel(f"${name}$")
        axes.grid(alpha=0.3)
    for name, level in levels.items():
        rows[0].axhline(level, color=style.GREY, linewidth=0.8, linestyle=":")
        rows[0].annotate(name, (1.0, level), xycoords=("axes fraction", "data"), xytext=(3, 0), fontsize=8,
                         textcoords="offset points", va="center", color=style.GREY)  # fmt: skip
    rows[0].set_title("The first trajectory of the test split; marks at the bottom: events", fontsize=10)
    rows[-1].set_xlabel("t")
    figure.legend(*rows[0].get_legend_handles_labels(), loc="outside lower right", fontsize=8, ncols=3)
    return figure


def _mark_events(axes: Axes, times: Tensor, colour: str, height: float) -> None:
    """A tick for each event, at `height`, a fraction of the height of the axes."""
    axes.plot(
        times, torch.full_like(times, height), "|", color=colour, markersize=14, markeredgewidth=1.6,
        transform=axes.get_xaxis_transform(), clip_on=False,
    )  # fmt: skip
