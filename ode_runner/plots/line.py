"""Flows of states over depth, drawn by one coordinate."""

import torch
from torch import Tensor

from ode_runner.plots import style
from ode_runner.plots.figure_types import Axes, Figure
from ode_runner.types import Trajectory

LINES = 60  # a figure with more would be unreadable


def draw_paths_over_depth(states: Trajectory, groups: Tensor, *, names: tuple[str, ...]) -> Figure:
    """The first state coordinate of each sample from input (left) to head (right), coloured by its group.

    Args:
        states: (times, samples, dimensions).
        groups: (samples,), the index in `names` of each sample's group.
        names: of the groups.
    """
    figure = style.figure(6.4, 4.2)
    _draw_paths(figure.subplots(), states, groups, names=names)
    return figure


def draw_map(states: Trajectory, inputs: Tensor, targets: Tensor, outputs: Tensor) -> Figure:
    """The paths of numbers through depth; and each number's output beside its target.

    Args:
        states: (times, samples, dimensions).
        inputs: (samples,), as are targets and outputs.
    """
    figure = style.figure(10, 4.2)
    paths, axes = figure.subplots(1, 2)
    _draw_paths(paths, states, (inputs > 0).long(), names=("inputs below 0", "inputs above 0"))
    order = inputs.cpu().argsort()
    x, wanted, found = (values.cpu()[order] for values in (inputs, targets, outputs))
    axes.plot(x, wanted, color="black", linewidth=1.2, label="target")
    axes.plot(x, found, "--", color=style.VERMILION, linewidth=1.8, label="model")
    axes.set(title="The map", xlabel="input", ylabel="output")
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    return figure


def _draw_paths(axes: Axes, states: Trajectory, groups: Tensor, *, names: tuple[str, ...]) -> None:
    depth = torch.linspace(0, 1, len(states))
    every = max(1, states.shape[1] // LINES)
    paths, labels = states[:, ::every, 0].cpu(), groups[::every].cpu()
    for value, name in enumerate(names):
        lines = axes.plot(depth, paths[:, labels == value], color=style.CLASSES[value], linewidth=0.8, alpha=0.7)
        if lines:
            lines[0].set_label(name)
    parts = style.part_of(1, states.shape[2], "coordinates"), f"{paths.shape[1]} of {states.shape[1]}" * (every > 1)
    axes.set(title=style.titled("Paths from input to head", *parts), xlabel="depth, relative", ylabel="$y_1$")
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
