"""Images, and samples of a model that was trained on them."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ode_runner.plots import style
from ode_runner.plots.animation import Animation
from ode_runner.plots.figure_types import Figure
from ode_runner.types import Trajectory

COLUMNS = 8


def draw_images(images: Tensor, *, brightest: int, samples: int) -> Figure:
    """Images (count, 1, height, width), the first of `samples` samples, in a nearly square grid."""
    columns = math.ceil(len(images) ** 0.5)
    mosaic = _mosaic(images, columns)
    height, width = mosaic.shape
    figure = style.figure(6.4, 6.4 * height / width)
    axes = figure.subplots()
    axes.imshow(mosaic.numpy(), cmap="gray_r", vmin=0, vmax=brightest)
    axes.set_title(style.part_of(len(images), samples, "samples"), fontsize=10)
    axes.axis("off")
    return figure


def draw_images_beside(images: Tensor, samples: Tensor, *, brightest: int, tested: int, drawn: int) -> Figure:
    """Images (count, 1, height, width), the first of `tested` test images, and samples, the first of `drawn`."""
    figure = style.figure(9, 3.3)
    titles = (
        style.part_of(len(images), tested, "test images") or "Test images",
        style.part_of(len(samples), drawn, "samples") or "Samples",
    )
    for axes, shown, title in zip(figure.subplots(1, 2), (images, samples), titles, strict=True):
        axes.imshow(_mosaic(shown, COLUMNS).numpy(), cmap="gray_r", vmin=0, vmax=brightest)
        axes.set_title(title, fontsize=10)
        axes.axis("off")
    return figure


def draw_images_on_the_way(path: Trajectory, *, brightest: int) -> Figure:
    """The first samples of a path (times, count, 1, height, width), a row for each time."""
    times, height = len(path), path.shape[3]
    figure = style.figure(6.4, 0.78 * times + 0.4)
    axes = figure.subplots()
    axes.imshow(_mosaic(path[:, :COLUMNS].flatten(0, 1), COLUMNS).numpy(), cmap="gray_r", vmin=0, vmax=brightest)
    axes.set(xticks=[], yticks=[1 + height / 2 + i * (height + 1) for i in range(times)])
    axes.set_yticklabels([f"{i / (times - 1):.0%}" for i in range(times)])
    some = style.part_of(min(COLUMNS, path.shape[1]), path.shape[1], "samples")
    axes.set_title(style.titled("Samples on their way from the normal distribution to the data", some), fontsize=10)
    return figure


def draw_nearest(samples: Tensor, images: Tensor, *, brightest: int) -> Figure:
    """Samples (count, 1, height, width), and below each of them the nearest training image."""
    figure = style.figure(9, 2.4)
    axes = figure.subplots()
    axes.imshow(_mosaic(torch.cat([samples, images]), len(samples)).numpy(), cmap="gray_r", vmin=0, vmax=brightest)
    axes.set_title("Samples, and the training image nearest to each", fontsize=10)
    axes.axis("off")
    return figure


def animate_images(path: Trajectory, *, brightest: int) -> Animation:
    """All samples of a path (times, count, 1, height, width), a frame for each time."""
    figure = style.figure(4.6, 4.8)
    axes = figure.subplots()
    columns = math.ceil(path.shape[1] ** 0.5)
    shown = axes.imshow(_mosaic(path[0], columns).numpy(), cmap="gray_r", vmin=0, vmax=brightest)
    axes.axis("off")

    def show(i: int) -> None:
        shown.set_data(_mosaic(path[i], columns).numpy())
        axes.set_title(f"From noise to data: {i / (len(path) - 1):.0%}", fontsize=10)

    return Animation(figure=figure, show=show, frames=len(path), per_second=12)


def _mosaic(images: Tensor, columns: int) -> Tensor:
    """Images (count, 1, height, width) in a grid with so many columns and white lines between: (height, width)."""
    rows = -(-len(images) // columns)
    padded = torch.nan_to_num(images[:, 0].cpu().float(), nan=0.0)
    filled = torch.cat([padded, padded.new_zeros(rows * columns - len(padded), *padded.shape[1:])])
    cells = F.pad(filled, (1, 0, 1, 0)).unflatten(0, (rows, columns))
    return cells.permute(0, 2, 1, 3).flatten(2, 3).flatten(0, 1)
