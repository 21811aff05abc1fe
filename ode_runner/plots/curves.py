"""Curves of a training run: loss, metric and evaluations."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from ode_runner.plots import style
from ode_runner.plots.figure_types import Axes, Figure

History = Sequence[Mapping[str, float]]

ABBREVIATIONS = ("mse", "nelbo", "nll", "rmse")
FEW = 2  # runs with fewer epochs are drawn over steps
ACCURACY, EVALUATIONS = "Accuracy", "Evaluations of the field (NFE) per batch"


class Samples(NamedTuple):
    """What the samples of each split are, in words, if the curves of the two splits are not about the same samples."""

    training: str = ""
    validation: str = ""


SAME = Samples()
NO_LEVELS: Mapping[str, float] = MappingProxyType({})
LEVELS = ((style.GREY, "-."), (style.PURPLE, ":"))  # colour and dashes of each level line


class _Line(NamedTuple):
    label: str
    look: tuple[str, str]  # colour and dashes
    points: Sequence[tuple[float, float]]


def draw_curves(
    history: History, *, quality: str = "accuracy", samples: Samples = SAME, levels: Mapping[str, float] = NO_LEVELS
) -> Figure:
    """Loss, the metric named `quality` and evaluations per solve over epochs; over steps if there are very few epochs.

    There is no panel for what was never measured, for evaluations that are all 0, or for a loss that is the metric.
    `levels`: numbers to compare the metric with, by name, at most two; drawn as horizontal lines.
    """
    panels = list(_panels(history, quality, samples))
    figure = style.figure(4.1 * max(2, len(panels)), 3.8)
    grid = figure.subplots(1, max(1, len(panels)), squeeze=False)[0]
    for axes, (title, lines) in zip(grid, panels, strict=False):
        _draw(axes, title, lines)
        if title == _title(quality):
            _draw_levels(axes, levels)
        axes.set_xlabel(_clock(history))
    handles = {label: handle for axes in grid for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", fontsize=9, ncols=3)
    return figure


def _panels(history: History, quality: str, samples: Samples) -> Iterator[tuple[str, list[_Line]]]:
    """Titles and lines of the panels that have at least one line."""
    training, validation = (f", {words}" if words else "" for words in samples)
    trained = (f"training{training}", (style.BLUE, "-"))
    validated = (f"validation{validation}", (style.ORANGE, "--"))
    backward = (f"training{training}, backward", (style.GREEN, ":"))
    found = {
        name: _lines(history, {f"train/{name}": trained, name: trained, f"eval/{name}": validated})
        for name in ("loss", quality)  # a metric logged beside the training loss has no prefix
    }
    if quality != "loss" and found["loss"] == found[quality]:
        found.pop("loss")
    yield from ((_title(name), lines) for name, lines in found.items() if lines)
    evaluated = _lines(history, {"nfe/forward": trained, "nfe/backward": backward, "nfe/eval": validated})
    if lines := [line for line in evaluated if any(y for _, y in line.points)]:
        yield EVALUATIONS, lines


def _lines(history: History, looks: Mapping[str, tuple[str, tuple[str, str]]]) -> list[_Line]:
    clock = _clock(history)
    found = [_Line(*look, [(row[clock], row[key]) for row in history if key in row]) for key, look in looks.items()]
    return [line for line in found if line.points]


def _clock(history: History) -> str:
    """The quantity on the horizontal axis."""
    return "epoch" if history and history[-1]["epoch"] >= FEW else "step"


def _title(name: str) -> str:
    title = " ".join(word.upper() if word in ABBREVIATIONS else word for word in name.split("_"))
    return title[:1].upper() + title[1:]


def _draw(axes: Axes, title: str, lines: Sequence[_Line]) -> None:
    for label, (colour, dashes), points in lines:
        marker = "o" if len(points) <= 60 else ""  # more markers would hide the lines
        axes.plot(*zip(*points, strict=True), dashes, color=colour, label=label, marker=marker, markersize=3)
    axes.set_title(title, fontsize=11)
    axes.set_xlim(left=0)
    style.count_in_whole_numbers(axes.xaxis)
    axes.grid(alpha=0.3)
    if title == ACCURACY:
        axes.set_ylim(top=1.0)
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.4g} %")
    elif title == EVALUATIONS:
        axes.set_ylim(bottom=0)
        style.count_in_whole_numbers(axes.yaxis)
    elif all(y > 0 for _, _, points in lines for _, y in points):  # a log density may be below 0
        axes.set_yscale("log")


def _draw_levels(axes: Axes, levels: Mapping[str, float]) -> None:
    for (label, value), (colour, dashes) in zip(levels.items(), LEVELS, strict=False):
        axes.axhline(value, color=colour, linestyle=dashes, label=label)
