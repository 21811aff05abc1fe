"""Figures of text generation by unmasking."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ode_runner.plots import style
from ode_runner.plots.figure_types import Figure

MOST_LETTERS = 64  # up to so many positions, tokens are written into the figure


def draw_unmasking(path: Tensor, *, words: Sequence[str], samples: int) -> Figure:
    """When each token took its final value, early ones dark; the token is written into its cell.

    Args:
        path: integers (time, text, position), from noise to text.
        words: the vocabulary.
        samples: number of samples drawn, of which these are the first.
    """
    came = last_change(path)
    texts, positions = came.shape
    figure = style.figure(max(6.0, min(12.0, 0.42 * positions + 1.6)), 0.34 * texts + 1.2)
    axes = figure.subplots()
    extent = (0.5, positions + 0.5, texts - 0.5, -0.5)  # positions are counted from 1, samples from 0
    image = axes.imshow(came.numpy(), cmap="viridis", vmin=0, vmax=1, aspect="auto", extent=extent)
    if positions <= MOST_LETTERS:
        for i, text in enumerate(path[-1].tolist()):
            for j, token in enumerate(text):
                shade = "white" if came[i, j] < 0.6 else "black"
                axes.text(j + 1, i, words[token].strip() or "␣", ha="center", va="center", color=shade, fontsize=8)
    axes.set(xlabel="position", ylabel="sample")
    some = style.part_of(texts, samples, "samples")
    axes.set_title(f"{some or 'Samples'}, each token shaded by when it came to stand".capitalize(), fontsize=10)
    for axis in (axes.xaxis, axes.yaxis):
        style.count_in_whole_numbers(axis)
    figure.colorbar(image, label="share of the steps from noise to text")
    return figure


def last_change(path: Tensor) -> Tensor:
    """The share of the steps of `path` (time, text, position) after which a position stays fixed: (text, position)."""
    steps = len(path) - 1
    numbers = torch.arange(1, steps + 1, device=path.device)[:, None, None]
    return ((path[1:] != path[:-1]) * numbers).amax(dim=0).double().cpu() / steps
