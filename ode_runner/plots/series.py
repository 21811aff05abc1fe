"""Series of observations, and a model's answers about them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ode_runner.controls.series import Series
from ode_runner.plots import style
from ode_runner.plots.figure_types import Figure

LARGEST = 4  # panels in a row
MOST_CHANNELS = 8  # of a control; a figure with more would be unreadable


def draw_answers(series: Series, answers: Sequence[str], *, tested: int) -> Figure:
    """Each series under its answer: in the plane if it has two channels, otherwise over time.

    The series are the first of `tested` test series.
    """
    rows = -(-len(answers) // LARGEST)
    figure = style.figure(2.6 * LARGEST, 2.5 * rows + 0.3)
    every = list(figure.subplots(rows, LARGEST, squeeze=False).flat)
    for axes in every[len(answers) :]:
        axes.axis("off")
    for number, (answer, axes) in enumerate(zip(answers, every, strict=False)):
        length = int(series.lengths[number])
        times, values = series.times[number, :length].cpu(), series.values[number, :length].cpu()
        if values.shape[1] == 2:
            axes.plot(*values.T, ".-", color=style.BLUE, markersize=3, linewidth=0.7)
            axes.plot(*values[0], "o", color=style.VERMILION, markersize=4)
            axes.set_aspect("equal", "datalim")
        else:
            axes.plot(times, values, ".-", markersize=3, linewidth=0.7)
        axes.set_title(answer, fontsize=9)
        axes.tick_params(labelsize=7)
    title = "Test series in the plane; orange: first points" if series.values.shape[2] == 2 else "Test series"
    figure.suptitle(style.titled(title, style.part_of(len(answers), tested, "series")), fontsize=11)
    return figure


def draw_control(ts: Tensor, channels: Tensor, knots: Tensor, names: Sequence[str]) -> Figure:
    """The control of one series over row numbers.

    Args:
        ts: (time,) row numbers, not only whole ones.
        channels: (time, channels), the control at `ts`.
        knots: (rows, channels), the rows that the control interpolates.
        names: of the channels.
    """
    shown = names[:MOST_CHANNELS]
    figure = style.figure(8, 1.5 * len(shown) + 1.0)
    every = list(figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0])
    for channel, (name, axes) in enumerate(zip(shown, every, strict=True)):
        axes.plot(ts, channels[:, channel], color=style.BLUE, linewidth=1.0)
        axes.plot(range(len(knots)), knots[:, channel], ".", color=style.VERMILION, markersize=4)
        axes.set_ylabel(name, fontsize=9)
    every[-1].set_xlabel("row")
    some = f"; the first {len(shown)} of {len(names)} channels" if len(shown) < len(names) else ""
    figure.suptitle(f"A test series: its control (line) and its rows (points){some}", fontsize=11)
    return figure


def draw_states(states: Tensor, answers: Sequence[str], *, tested: int) -> Figure:
    """Hidden states (time, series, units) of the first of `tested` series along their rows; each unit is one line."""
    figure = style.figure(2.6 * len(answers), 2.6)
    share = torch.linspace(0, 1, len(states))
    for number, (answer, axes) in enumerate(
        zip(answers, figure.subplots(1, len(answers), squeeze=False)[0], strict=True)
    ):
        axes.plot(share, states[:, number].cpu(), linewidth=0.9)
        axes.set_title(answer, fontsize=9)
        axes.tick_params(labelsize=7)
        axes.set_xlabel("share of the rows", fontsize=8)
    some = style.part_of(len(answers), tested, "series")
    figure.suptitle(style.titled("Hidden states, each unit a line", some), fontsize=11)
    return figure
