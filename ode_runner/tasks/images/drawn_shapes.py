"""Small generated images of three shapes, for trying the task of the user's own images."""

import torch
from torch import Tensor

CLASSES = ("disk", "square", "triangle")


def drawn_shapes(count: int, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Images (count, 3, height, width), bytes, and classes (count,): shapes of random colour, place and size.

    The seed is fixed, so that they are always the same.
    """
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % len(CLASSES)
    places = torch.rand(count, 3, generator=generator, dtype=torch.float64)
    radius = 0.18 + 0.14 * places[:, 0, None, None]
    x, y = (
        torch.linspace(0, 1, side, dtype=torch.float64)[shape] - 0.35 - 0.3 * places[:, axis, None, None]
        for axis, side, shape in ((1, size[1], (None, None, slice(None))), (2, size[0], (None, slice(None), None)))
    )
    inside = torch.stack(
        [
            x**2 + y**2 < radius**2,
            torch.maximum(x.abs().expand_as(x + y), y.abs().expand_as(x + y)) < 0.85 * radius,
            (y < 0.7 * radius) & (2.2 * x.abs() < y + 1.1 * radius),
        ]
    )[labels, torch.arange(count)]
    ink, ground = (
        torch.randint(low, high, (count, 3, 1, 1), generator=generator) for low, high in ((130, 256), (0, 100))
    )
    grain = torch.randint(-20, 21, (count, 3, *size), generator=generator)
    return (torch.where(inside[:, None], ink, ground) + grain).clamp(0, 255).to(torch.uint8), labels
